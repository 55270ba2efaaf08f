"""`fedrad.simulate`: a whole federation in this process."""

from collections.abc import Mapping
from pathlib import Path

from fedrad.deploy.local import simulation

from . import AnyPath
from .results import Results, load_results


def simulate(
    experiment: AnyPath,
    sites: Mapping[str, AnyPath],
    out: AnyPath,
    *,
    state: AnyPath | None = None,
) -> Results:
    """Run a whole federation in this process, one site after another, as `fedrad simulate` does.

    The same seed and the same data give the same figures on a CPU. Progress is logged by the logger
    `fedrad`.

    Parameters
    ----------
    experiment
        Experiment file (TOML); `fedrad init` writes a commented one.
    sites
        Name -> folder of each site.
    out
        New folder for the results.
    state
        Folder for what sites store from one run to the next; default: `out/sites`.

    Returns
    -------
    Results
        The results, also written to `out`.

    Raises
    ------
    UserError
        If the experiment cannot start; the text names every fault.
    ExperimentFailed
        If the experiment cannot continue, for example because sites failed.

    Examples
    --------
    >>> results = fedrad.simulate(
    ...     "experiment.toml", {"north": "data/north", "south": "data/south"}, "results"
    ... )
    >>> results.overall[["model", "outcome", "within", "within_ci_low", "within_ci_high"]]
    """
    folders = {name: Path(folder) for name, folder in sites.items()}
    checked = simulation.prepare(
        Path(experiment), folders, Path(out), state=None if state is None else Path(state)
    )
    simulation.simulate(checked)
    return load_results(out)
