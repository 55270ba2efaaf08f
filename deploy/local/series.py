"""Many experiments from one file, one after another on one machine; what is finished stands."""

from pathlib import Path

from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import parse_experiment, read_experiment
from fedrad.server.results.summary import Summary, read_summary

from .simulation import noted, prepare, simulate


def run(
    text: str, experiment_file: Path, sites: dict[str, Path], folder: Path, state: Path | None
) -> Summary:
    """The summary of an experiment whose text was made from a file's: run now, gone on with, or
    completed earlier in the same folder.

    `state`: where sites keep what is theirs (else in `folder`). Raises Refused, also where the
    folder holds an experiment of other settings.
    """
    kept = folder / "experiment.toml"
    if kept.is_file() and read_experiment(kept)[0].identity != parse_experiment(text).identity:
        raise Refused(
            f"{folder}: was begun with other settings than {experiment_file} has now; give another "
            "--out, or set them back"
        )
    if (summary := finished(folder)) is not None:
        return summary
    if (earlier := noted(folder)) is not None:
        return simulate(earlier[0])
    file = experiment_file.with_name(f".{folder.name}.toml")  # beside the base weights
    try:
        file.write_text(text, encoding="utf-8")
        simulation = prepare(file, sites, folder, state=state)
    finally:
        file.unlink(missing_ok=True)
    return simulate(simulation)


def finished(folder: Path) -> Summary | None:
    """The summary of an experiment that was completed in a folder."""
    if not (folder / "summary.json").is_file():
        return None
    summary = read_summary(folder)
    return summary if summary.status == "completed" else None
