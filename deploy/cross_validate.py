"""Cross-validation: a training for each fold, and one release at the end."""

import shutil
from pathlib import Path

import tomlkit

from fedrad.exchange.experiment import read_experiment
from fedrad.server.report import write_report
from fedrad.server.summary import Summary, read_summary

from .given import Refused
from .leave_out import finished, run


def cross_validate(experiment_file: Path, sites: dict[str, Path], out: Path) -> Summary:
    """Run an experiment's folds, each in `out/fold-NUMBER`; the last has the figures over all, and
    `out` its summary and report. A finished fold is not run again, an unfinished one is resumed.

    What sites keep is in `out/sites`, common to all folds. Raises Refused.
    """
    experiment, text = read_experiment(experiment_file)
    evaluation = experiment.evaluation
    if not evaluation.folds:
        raise Refused("cross-validate: evaluation.folds says how many; it is 0")
    for fold in range(evaluation.folds * evaluation.repeats):
        document = tomlkit.parse(text)
        document["evaluation"]["fold_number"] = fold
        folder = out / f"fold-{fold:03}"
        if finished(folder) is None:
            run(tomlkit.dumps(document), experiment_file, sites, folder, out / "sites")
    shutil.copyfile(folder / "summary.json", out / "summary.json")
    write_report(out)
    return read_summary(out)
