"""The documents are true: every setting is in the coordinator's table, and no other."""

import importlib
import re
from typing import Literal, get_args, get_origin

import click
import pytest
import typer
from pydantic import BaseModel
from support.paths import ROOT

from fedrad.exchange.experiment import Experiment

INLINE = {"recipe.thaw", "recipe.learning_rates", "recipe.augmentation", "recipe.progression"}


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    keys_ = set()
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and key not in INLINE:
            keys_ |= keys(inner, f"{key}.")
        else:
            keys_.add(key)
    return keys_


def table_of_settings() -> dict[str, str]:
    """Key -> its row of the coordinator's table."""
    table = (ROOT / "docs" / "coordinator.md").read_text().split("### Every setting")[1]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    return {key: row for row in rows for key in re.findall(r"`([a-z0-9_.]+)`", row.split("|")[1])}


def test_the_table_of_settings_is_complete():
    assert table_of_settings().keys() == keys(Experiment)


def choices(model: type[BaseModel], prefix: str = "") -> dict[str, list[str]]:
    """Key -> its allowed values, for settings with a fixed list of values."""
    allowed = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            allowed |= choices(field.annotation, f"{prefix}{name}.")
        elif get_origin(field.annotation) is Literal and prefix + name in table_of_settings():
            allowed[prefix + name] = [v for v in get_args(field.annotation) if isinstance(v, str)]
    return allowed


@pytest.mark.parametrize(("key", "allowed"), choices(Experiment).items())
def test_the_table_of_settings_names_every_choice(key, allowed):
    row = table_of_settings()[key].replace('"', "")
    assert [word for word in allowed if f"`{word}`" not in row] == []


def test_links_between_documents_lead_somewhere():
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            assert (file.parent / target).exists(), (file.name, target)


def test_contributing_names_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = "|".join(link.name for link in (ROOT / "src" / "fedrad").iterdir() if link.is_dir())
    named = set(re.findall(rf"`((?:{rooms}|tests|docs)/[\w./-]*)`", text))
    assert len(named) > 20
    made_up = {  # those that the additions would write
        "server/rounds/strategies/fedadagrad.py",
        "models/augment/brightness.py",
        "client/cohort/checks/people.py",
    }
    assert {name for name in named if not (ROOT / name).exists()} <= made_up


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
