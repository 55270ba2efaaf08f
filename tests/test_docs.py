"""The documents are true: every setting is in the coordinator's table, and no other."""

import importlib
import re

import click
import pytest
import typer
from pydantic import BaseModel
from support.paths import ROOT

from fedrad.exchange.experiment import Experiment

INLINE = {"recipe.thaw", "recipe.learning_rates", "recipe.augmentation", "recipe.progression"}


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and key not in INLINE:
            found |= keys(inner, f"{key}.")
        else:
            found.add(key)
    return found


def test_the_table_of_settings_is_complete():
    table = (ROOT / "docs" / "coordinator.md").read_text().split("### Every setting")[1]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {key for row in rows for key in re.findall(r"`([a-z0-9_.]+)`", row)}
    assert listed == keys(Experiment)


def test_links_between_documents_lead_somewhere():
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            assert (file.parent / target).exists(), (file.name, target)


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py")))
def test_every_benchmark_still_finds_what_it_measures(name):
    assert importlib.import_module(name).__doc__


def test_every_command_that_the_documents_name_is_there():
    from fedrad.client.commands.main import app as site
    from fedrad.deploy.commands.main import app as coordinator

    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    for program, app in (("fedrad-site", site), ("fedrad", coordinator)):
        group = typer.main.get_command(app)
        assert isinstance(group, click.Group)
        quoted = set(re.findall(rf"`{program} ([a-z][a-z-]+)", text))
        assert quoted <= set(group.commands), f"{program}: {quoted - set(group.commands)}"
        named = set(re.findall(rf"(?<![\w/-]){program} ([a-z][a-z-]+)", text))
        assert set(group.commands) <= named, f"undocumented: {set(group.commands) - named}"
