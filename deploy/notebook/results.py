"""`fedrad.load_results`: the figures of an experiment as frames."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from fedrad.deploy.refused import Refused
from fedrad.server.results.summary import Round, Summary, read_summary

from . import AnyPath


@dataclass(frozen=True)
class Results:
    """The results of an experiment.

    A row of `cells` and `overall` has a column for each figure that is one number or word. An
    interval is two columns, `NAME_low` and `NAME_high`. A figure that is not known is NaN or None.
    AUROC, sensitivity and the like are in [0, 1]. What has more structure (ROC and calibration
    curves, comparisons, subgroups) is in `summary`.

    Attributes
    ----------
    folder
        Folder of the experiment; `report.html` is in it.
    status
        "completed", "stopped" or "failed".
    cells
        One row for each model, site and outcome: figures on the site's test patients. `missing`
        says why a cell has none.
    overall
        One row for each model and outcome: figures over all sites.
    rounds
        One row for each round, site and outcome: the stage, `seconds` of the round, bytes of
        tensors in both directions, the site's `status`, `site_seconds`, training `units` and
        `loss`, and the global model's `validation_auroc` and `validation_loss` at the start of the
        round.
    summary
        All of `summary.json`.
    """

    folder: Path
    status: str
    cells: pd.DataFrame
    overall: pd.DataFrame
    rounds: pd.DataFrame
    summary: Summary


def load_results(folder: AnyPath) -> Results:
    """Load the results of an experiment, wherever it ran.

    Parameters
    ----------
    folder
        Folder of the experiment: the `out` of `simulate`, or the `--out` of `fedrad simulate`,
        `run` or `cross-validate`.

    Returns
    -------
    Results
        The figures as pandas frames.

    Raises
    ------
    UserError
        If the folder holds no `summary.json`, or one that cannot be read.

    Examples
    --------
    >>> results = fedrad.load_results("results")
    >>> results.cells.pivot(index="site", columns="model", values="auroc")
    """
    place = Path(folder)
    try:
        summary = read_summary(place)
    except FileNotFoundError:
        raise Refused(f"{place}: holds no summary.json; give the folder of an experiment") from None
    except ValidationError as error:
        raise Refused(f"{place / 'summary.json'}: not a summary of fedrad: {error}") from error
    return Results(
        folder=place,
        status=summary.status,
        cells=_frame(summary.cells),
        overall=_frame(summary.overall),
        rounds=pd.DataFrame(_site_rounds(summary.rounds), columns=list(ROUND_COLUMNS)),
        summary=summary,
    )


ROUND_COLUMNS = (
    "round",
    "stage",
    "seconds",
    "bytes_to_sites",
    "bytes_from_sites",
    "site",
    "status",
    "site_seconds",
    "units",
    "loss",
    "outcome",
    "validation_auroc",
    "validation_loss",
)


def _site_rounds(rounds: Iterable[Round]) -> Iterable[tuple[Any, ...]]:
    """Rows of `ROUND_COLUMNS`; a site without a monitored figure has one row without an outcome."""
    for r in rounds:
        of_round = (r.round, r.stage, r.seconds, r.bytes_to_sites, r.bytes_from_sites)
        for site, s in r.sites.items():
            of_site = (site, s.status, s.seconds, s.units, s.loss)
            for outcome in dict.fromkeys([*s.auroc, *s.validation_loss]) or [None]:
                figures = (
                    (s.auroc.get(outcome), s.validation_loss.get(outcome))
                    if outcome
                    else (None, None)
                )
                yield (*of_round, *of_site, outcome, *figures)


def _frame(rows: Sequence[BaseModel]) -> pd.DataFrame:
    """A column for each field that holds a number or a word; two for an interval."""
    dumped = [row.model_dump(mode="json") for row in rows]
    names = list(dict.fromkeys(name for row in dumped for name in row))
    columns: dict[str, list[Any]] = {}
    for name in names:
        values = [row.get(name) for row in dumped]
        if name == "ci" or name.endswith("_ci"):
            pairs = [value or (None, None) for value in values]
            columns[f"{name}_low"] = [low for low, _ in pairs]
            columns[f"{name}_high"] = [high for _, high in pairs]
        elif not any(isinstance(value, list | dict) for value in values):
            columns[name] = values
    return pd.DataFrame(columns)
