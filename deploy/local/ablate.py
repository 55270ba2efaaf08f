"""Ablation: runs variants of one experiment on the same patients, and compares them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from fedrad.deploy.refused import Refused
from fedrad.deploy.start.preparation import weights_fault
from fedrad.exchange.experiment import ExperimentError, parse_experiment, read_experiment
from fedrad.exchange.strategies import SETTINGS_READ
from fedrad.models.settings import PRESETS
from fedrad.models.weight_folders import add_weight_folder
from fedrad.server.report.compare_page import write_comparison

from .cross_validate import run_folds
from .series import run_or_resume

STATE = "sites"
OF_WEIGHTS = ("sha256", "base_outputs")
"""Settings of `[model]` that describe the weights. A row with other weights does not inherit
them."""


def ablate(experiment_file: Path, sites: dict[str, Path], out: Path) -> Path:
    """Run the experiment once for each row of its `[ablation]`, and compare the rows.

    Each row has its folder `out/ROW`; with folds it is a cross-validation. A finished row is not
    run again, an unfinished one is resumed. All rows share the sites' state in `out/sites`: the
    division of the patients, decoded images, and the outputs of equal frozen blocks
    (`recipe.views`).

    Parameters
    ----------
    experiment_file
        File with `[ablation]`.
    sites
        Name -> folder of each site.
    out
        Folder for the results.

    Returns
    -------
    Path
        The page that compares the rows.

    Raises
    ------
    Refused
        Before anything is run, if a row cannot run.
    """
    _, text = read_experiment(experiment_file)
    rows = ablation_rows(text, str(experiment_file))
    if not rows:
        raise Refused(f"{experiment_file}: ablate runs the rows of [ablation], and it has none")
    add_weight_folder(experiment_file.parent)
    faults = {row: weights_fault(parse_experiment(variant)) for row, variant in rows.items()}
    if lacking := [f"ablation.{row}: {fault}" for row, fault in faults.items() if fault]:
        raise Refused(*lacking)
    for row, variant in rows.items():
        if parse_experiment(variant).evaluation.folds:
            run_folds(variant, experiment_file, sites, out / row, out / STATE)
        else:
            run_or_resume(variant, experiment_file, sites, out / row, out / STATE)
    return write_comparison({row: out / row for row in rows}, out)


def ablation_rows(text: str, source: str = "experiment.toml") -> dict[str, str]:
    """Row -> the text of its experiment, from the text of a file with `[ablation]`.

    Raises Refused, with the name of the row, if a row is not a valid experiment. `source`: name of
    the file for messages.
    """
    document = tomlkit.parse(text)
    variants = document.pop("ablation", {})
    texts = {}
    for row, changes in variants.items():
        if row == STATE:
            raise Refused(f"{source}: ablation.{row}: name the row otherwise: sites keep theirs so")
        variant = tomlkit.parse(tomlkit.dumps(document))
        variant["name"] = f"{variant['name']}.{row}"
        recipe, model = changes.get("recipe", {}), changes.get("model", {})
        if overruled := _overruled_settings(variant.get("recipe", {}), recipe):
            raise Refused(
                f"{source}: ablation.{row}: its preset sets recipe.{overruled[0]}, which the file "
                "sets for all rows: take it out there, or set it in the row"
            )
        if "weights" in model:
            for name in OF_WEIGHTS:
                variant.get("model", {}).pop(name, None)
        if strategy := changes.get("federation", {}).get("strategy"):
            stated = variant.get("federation", {}).get("server", {})
            for name in stated.keys() - set(SETTINGS_READ.get(str(strategy), stated)):
                stated.pop(name)  # of the file's strategy, which the row replaces
        _merge(variant, changes)
        texts[row] = tomlkit.dumps(variant)
        try:
            parse_experiment(texts[row], f"{source}: ablation.{row}")
        except ExperimentError as error:
            raise Refused(str(error)) from error
    return texts


def _overruled_settings(of_all: Mapping[str, Any], of_row: Mapping[str, Any]) -> list[str]:
    """Settings of a row's preset that settings of the file would overrule."""
    preset: Mapping[str, Any] = PRESETS.get(str(of_row.get("preset")), {})
    return [name for name in preset if name in of_all and name not in of_row]


def _merge(into: Any, changes: Mapping[str, Any]) -> None:
    """Set what a row changes, table by table."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), Mapping):
            _merge(into[name], value)
        else:
            into[name] = value
