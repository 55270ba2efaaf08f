"""fedrad in a notebook: read a site, simulate a federation, look at results, use a model.

Reached as `fedrad.read_site`, `fedrad.simulate` and so on; docs/python.md shows a whole session.
Every function raises `fedrad.UserError`, or a class derived from it, for what the caller can
correct. Importing this module switches the usage reports of Flower, Ray and Hugging Face off, in
this process.
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from fedrad.client.cohort import Pseudonyms, patient_numbers, read_table
from fedrad.client.predict import estimate, output
from fedrad.client.predict.estimate import ExportedModel
from fedrad.client.settings import open_site
from fedrad.deploy.local import simulation
from fedrad.deploy.refused import Refused
from fedrad.server.results.summary import Round, Summary, read_summary

AnyPath = str | PathLike[str]


@dataclass(frozen=True)
class SiteImages:
    """The images of a site, as its cohort table lists them.

    Attributes
    ----------
    name
        Name of the site.
    folder
        Folder of the site.
    outcomes
        Columns of the table that hold an outcome.
    images
        One row for each image: `file` (path within the folder; a SOP Instance UID if the table has
        no paths), `patient` (number of the patient, from 0; it identifies nobody and may change
        with the table), each outcome as 0, 1 or NaN for unknown, and the other columns of the
        table as text.
    """

    name: str
    folder: Path
    outcomes: tuple[str, ...]
    images: pd.DataFrame


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


def read_site(
    folder: AnyPath, *, name: str | None = None, outcomes: Sequence[str] | None = None
) -> SiteImages:
    """Read the cohort table of a site. No image is opened, and nothing is written.

    Parameters
    ----------
    folder
        Folder of the site: its cohort table and, optionally, `site.toml`.
    name
        Name of the site; default: that of `site.toml`, else the name of the folder.
    outcomes
        Columns of the table to take as outcomes; default: all columns that hold 0, 1 or nothing
        and are not known to mean something else (`sex`, for example).

    Returns
    -------
    SiteImages
        The images and their patients.

    Raises
    ------
    UserError
        If there is no such folder or table, or the table has a fault; the text names the line.

    Examples
    --------
    >>> site = fedrad.read_site("data/north")
    >>> site.images.groupby("patient")["bpd"].max().mean()
    0.25
    """
    place = Path(folder)
    if name is None and not (place / "site.toml").is_file():
        name = place.resolve().name
    site = open_site(place, name=name)
    table = read_table(site, outcomes, Pseudonyms.temporary())
    patients = patient_numbers(row.patient for row in table.rows)
    rows = [
        {"file": row.name, "patient": patient}
        | dict(zip(table.outcomes, row.labels, strict=True))
        | {k: v for k, v in row.values.items() if k not in ("file", "patient", *table.outcomes)}
        for row, patient in zip(table.rows, patients.tolist(), strict=True)
    ]
    return SiteImages(site.name, site.folder, table.outcomes, pd.DataFrame(rows))


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


def load_results(folder: AnyPath) -> Results:
    """Load the results of an experiment, wherever it ran.

    Parameters
    ----------
    folder
        Folder of the experiment: the `--out` of `fedrad simulate`, `run` or `cross-validate`.

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


def load_model(file: AnyPath) -> ExportedModel:
    """Load a model that `fedrad export` wrote.

    Parameters
    ----------
    file
        The `model.safetensors` of the exported folder.

    Returns
    -------
    ExportedModel
        `network` is a PyTorch module in evaluation mode, from images (N, 1, size, size) float32 to
        raw logits (N, outcomes); `record` holds outcomes, thresholds, calibration and input size;
        `prevalences` the prevalence of each outcome for which probabilities are meant.

    Raises
    ------
    UserError
        If the file holds no exported model, or this fedrad would show it other pictures than those
        it was trained on.

    Examples
    --------
    >>> model = fedrad.load_model("results/export/model.safetensors")
    >>> model.record.outputs
    ('bpd',)
    """
    return estimate.open_model(Path(file))


def predict(
    model: ExportedModel,
    files: Iterable[AnyPath],
    *,
    prevalence: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Estimate the outcomes of images, as `fedrad-site predict` does. Research use only.

    Parameters
    ----------
    model
        A model from `load_model`.
    files
        DICOM, PNG or JPEG files.
    prevalence
        Outcome -> prevalence among these patients, in (0, 1), for which probabilities are
        computed; default: the prevalence of the validation patients that calibrated the model.

    Returns
    -------
    pandas.DataFrame
        One row for each file and outcome: `file`, `outcome`, raw `logit`, calibrated `probability`
        in [0, 1] (NaN if the model is not calibrated), the `prevalence` it holds for,
        `above_threshold` (1 or 0) and `remarks` on the image. A file that cannot be used has one
        row, with the reason as `problem`.

    Raises
    ------
    UserError
        If `prevalence` names an outcome that the model lacks or has not calibrated.

    Examples
    --------
    >>> estimates = fedrad.predict(model, ["a.dcm", "b.png"], prevalence={"bpd": 0.2})
    >>> estimates[["file", "probability"]]
    """
    given = [f"{outcome}={value}" for outcome, value in (prevalence or {}).items()]
    adapted = estimate.at_prevalence(model, given)
    predictions, _ = estimate.predict(adapted, [str(file) for file in files])
    frame = pd.read_csv(
        io.StringIO(output.predictions_csv(adapted, predictions)),
        float_precision="round_trip",
        keep_default_na=False,
        na_values={"logit": "", "probability": "", "prevalence": "", "above_threshold": ""},
    )
    return frame.drop(columns=["as_far", "unlike"])


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
