"""Checks of a cohort, as Python and as the command."""

from pathlib import Path

from typer.testing import CliRunner

from fedrad.client.cohort.inspection import Inspection, inspect
from fedrad.client.commands.main import app
from fedrad.client.settings import open_site


def inspected(folder: Path, experiment=None) -> Inspection:
    return inspect(open_site(folder), experiment, lambda *_: None)[0]


def flagged(inspection: Inspection, name: str) -> list[str]:
    """Texts and files of the findings of a check, without those of severity "information"."""
    result = next(r for r in inspection.results if r.name == name)
    return [
        text
        for f in result.findings
        if (f.severity or result.severity) != "information"
        for text in (f.text, *(name for group in f.files for name in group))
    ]


def check(folder: Path, *options: str):
    return CliRunner().invoke(app, ["check", str(folder), *options])
