"""Cross-validation: a training for each fold, and one release at the end."""

import shutil
from pathlib import Path

import tomlkit

from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import parse_experiment, read_experiment
from fedrad.server.report.report import write_report
from fedrad.server.results.summary import Summary, read_summary

from .series import run


def cross_validate(experiment_file: Path, sites: dict[str, Path], out: Path) -> Summary:
    """Run an experiment's folds, each in `out/fold-NUMBER`; the last has the figures over all, and
    `out` its summary and report. A finished fold is not run again, an unfinished one is resumed.

    What sites keep is in `out/sites`, common to all folds. Raises Refused.
    """
    experiment, text = read_experiment(experiment_file)
    if not experiment.evaluation.folds:
        raise Refused("cross-validate: evaluation.folds says how many; it is 0")
    return run_folds(text, experiment_file, sites, out, out / "sites")


def run_folds(
    text: str, experiment_file: Path, sites: dict[str, Path], out: Path, state: Path
) -> Summary:
    """The same for the text of an experiment with folds that was made from a file's. Raises
    Refused."""
    evaluation = parse_experiment(text, str(experiment_file)).evaluation
    for fold in range(evaluation.folds * evaluation.repeats):
        document = tomlkit.parse(text)
        document["evaluation"]["fold_number"] = fold
        folder = out / f"fold-{fold:03}"
        run(tomlkit.dumps(document), experiment_file, sites, folder, state)
    shutil.copyfile(folder / "summary.json", out / "summary.json")
    write_report(out)
    return read_summary(out)
