"""Cross-validation: one training per fold, and one release of figures at the end."""

from pathlib import Path

import tomlkit

from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import parse_experiment, read_experiment
from fedrad.server.report.report import write_report
from fedrad.server.results.summary import Summary, read_summary
from fedrad.system.files import write_whole

from .series import run_or_resume


def cross_validate(experiment_file: Path, sites: dict[str, Path], out: Path) -> Summary:
    """Run all folds of an experiment.

    Each training has its folder `out/fold-NUMBER`. The last one has the figures over all folds; its
    summary and its report are copied to `out`. A finished fold is not run again, an unfinished one
    is resumed. All folds share the sites' state in `out/sites`.

    Parameters
    ----------
    experiment_file
        File of an experiment with folds.
    sites
        Name -> folder of each site.
    out
        Folder for the results.

    Returns
    -------
    Summary
        The summary over all folds.

    Raises
    ------
    Refused
        If the experiment has no folds or cannot run.
    """
    experiment, text = read_experiment(experiment_file)
    if not experiment.evaluation.folds:
        raise Refused("cross-validate: evaluation.folds says how many; it is 0")
    return run_folds(text, experiment_file, sites, out, out / "sites")


def run_folds(
    text: str, experiment_file: Path, sites: dict[str, Path], out: Path, state: Path
) -> Summary:
    """Run all folds of an experiment that is given as text, as `cross_validate` does.

    Parameters
    ----------
    text
        The experiment, which may differ from the file.
    experiment_file
        File from which the text was made. Base weights are searched beside it.
    sites
        Name -> folder of each site.
    out
        Folder for the results.
    state
        Folder for the sites' state.
    """
    evaluation = parse_experiment(text, str(experiment_file)).evaluation
    for fold in range(evaluation.folds * evaluation.repeats):
        document = tomlkit.parse(text)
        document["evaluation"]["fold_number"] = fold
        folder = out / f"fold-{fold:03}"
        run_or_resume(tomlkit.dumps(document), experiment_file, sites, folder, state)
    write_whole(out / "summary.json", (folder / "summary.json").read_bytes())
    write_report(out)
    return read_summary(out)
