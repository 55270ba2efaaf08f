"""An ablation: the same experiment with one thing changed at a time, on the same patients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from fedrad.deploy.refused import Refused
from fedrad.deploy.start.preparation import weights_fault
from fedrad.exchange.experiment import ExperimentError, parse_experiment, read_experiment
from fedrad.models.settings import PRESETS
from fedrad.models.weight_folders import look_in
from fedrad.server.report.compare_page import write_comparison

from .cross_validate import run_folds
from .series import run

STATE = "sites"
OF_WEIGHTS = ("sha256", "base_outputs")
"""Settings of `[model]` that belong to the weights and go with them."""


def ablate(experiment_file: Path, sites: dict[str, Path], out: Path) -> Path:
    """Run the experiment once for each row of its `[ablation]`, in `out/ROW`, with folds as a
    cross-validation, and compare the rows. Returns the comparison's page.

    What sites keep is in `out/sites`, common to all: who is tested, decoded images, and what frozen
    blocks make of fixed views (`recipe.views`), which rows with the same frozen weights share. A
    finished row is not run again, an unfinished one is gone on with. Raises Refused before any work
    where a row cannot run.
    """
    _, text = read_experiment(experiment_file)
    rows = rows_of(text, str(experiment_file))
    if not rows:
        raise Refused(f"{experiment_file}: ablate runs the rows of [ablation], and it has none")
    look_in(experiment_file.parent)
    faults = {row: weights_fault(parse_experiment(of_row)) for row, of_row in rows.items()}
    if lacking := [f"ablation.{row}: {fault}" for row, fault in faults.items() if fault]:
        raise Refused("\n".join(lacking))
    for row, of_row in rows.items():
        if parse_experiment(of_row).evaluation.folds:
            run_folds(of_row, experiment_file, sites, out / row, out / STATE)
        else:
            run(of_row, experiment_file, sites, out / row, out / STATE)
    return write_comparison({row: out / row for row in rows}, out)


def rows_of(text: str, source: str = "experiment.toml") -> dict[str, str]:
    """Row -> the text of its experiment, from the text of a file with `[ablation]`. Raises
    Refused naming the row where it makes no experiment."""
    document = tomlkit.parse(text)
    variants = document.pop("ablation", {})
    found = {}
    for row, changes in variants.items():
        if row == STATE:
            raise Refused(f"{source}: ablation.{row}: name the row otherwise: sites keep theirs so")
        of_row = tomlkit.parse(tomlkit.dumps(document))
        of_row["name"] = f"{of_row['name']}.{row}"
        recipe, model = changes.get("recipe", {}), changes.get("model", {})
        if masked := _masked(of_row.get("recipe", {}), recipe):
            raise Refused(
                f"{source}: ablation.{row}: its preset sets recipe.{masked[0]}, which the file "
                "sets for all rows: take it out there, or set it in the row"
            )
        if "weights" in model:
            for name in OF_WEIGHTS:
                of_row.get("model", {}).pop(name, None)
        _merge(of_row, changes)
        found[row] = tomlkit.dumps(of_row)
        try:
            parse_experiment(found[row], f"{source}: ablation.{row}")
        except ExperimentError as error:
            raise Refused(str(error)) from error
    return found


def _masked(of_all: Mapping[str, Any], of_row: Mapping[str, Any]) -> list[str]:
    """Settings of a row's preset that the file's own would overrule."""
    preset: Mapping[str, Any] = PRESETS.get(str(of_row.get("preset")), {})
    return [name for name in preset if name in of_all and name not in of_row]


def _merge(into: Any, changes: Mapping[str, Any]) -> None:
    """Set what a row changes, table by table."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), Mapping):
            _merge(into[name], value)
        else:
            into[name] = value
