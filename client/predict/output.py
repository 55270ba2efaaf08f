"""The results of `fedrad-site predict` as table, CSV and JSON, with explanations."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fedrad.client.images import REMARKS
from fedrad.models.typicality import LEVEL
from fedrad.system.text import visible

from .cohort_reference import CohortReference
from .estimate import ExportedModel, Prediction

PROBABILITY = (
    "probability: of many patients with this value, at a hospital with the prevalence named, about "
    "this share has the outcome, if patients with and without it look as they did where the model "
    "was calibrated. It describes many patients and has no interval for one image; intervals in "
    "the model card say how sure an AUROC is."
)
USE = "Research use only; not a medical device. Nothing was sent."
LOCAL = (
    "local: every site trained with a normalisation of its own; this file holds the base's, with "
    "which the model was not tested"
)


def likeness_in_words(reference: CohortReference | None, site: str | None) -> str:
    """How images were compared with the cohort of `site`, or that they were not compared."""
    if reference is None:
        return (
            "Whether these images are like those the model knows was not checked: --cohort FOLDER "
            "compares them with a hospital's own."
        )
    training = (
        f"{reference.trained_patients} of them trained the model"
        if reference.trained_patients
        else "none of them trained the model, so this says how like yours an image is, and not how "
        "like those it was trained on"
    )
    return (
        f"as_far: share of {reference.held_out_patients} held-out patients of {site} that are as "
        f"far from {reference.reference_patients} others as the image, in the network's features; "
        f"{training}. Up to "
        f"{LEVEL:g} it is called unlike; of images that are like them one in {round(1 / LEVEL)} is."
    )


PREDICTION_COLUMNS = (
    "file",
    "outcome",
    "logit",
    "probability",
    "prevalence",
    "above_threshold",
    "as_far",
    "unlike",
    "remarks",
    "problem",
)


def prediction_rows(
    model: ExportedModel, predictions: Sequence[Prediction]
) -> list[tuple[str | float | None, ...]]:
    """Values of `PREDICTION_COLUMNS`: one row for each file and outcome.

    An unusable file has one row, with the problem. Files are named as the user gave them, with odd
    bytes escaped; there are no other data of a patient.
    """
    rows = list[tuple[str | float | None, ...]]()
    for one in predictions:
        remarks, problem = "; ".join(one.reading.remarks), one.reading.unusable
        if problem is not None:
            rows.append((visible(one.file), "", *[None] * 6, remarks, problem))
        for outcome, e in one.estimates.items():
            rows.append(
                (
                    visible(one.file),
                    outcome,
                    e.logit,
                    e.probability,
                    model.prevalences[outcome],
                    int(e.above_threshold),
                    one.as_far,
                    None if one.as_far is None else int(one.unlike),
                    remarks,
                    "",
                )
            )
    return rows


def predictions_csv(model: ExportedModel, predictions: Sequence[Prediction]) -> str:
    """The rows of `prediction_rows` as CSV, under the names of the columns."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(PREDICTION_COLUMNS)
    table.writerows(prediction_rows(model, predictions))
    return text.getvalue()


def predictions_json(
    model: ExportedModel, predictions: Sequence[Prediction], likeness: str
) -> dict[str, Any]:
    """The predictions, with all that is needed to interpret them, as plain values for JSON.

    `likeness` is the text of `likeness_in_words`.
    """
    record = model.record
    return {
        "model": {
            "name": record.name,
            "trained_sha256": record.trained_sha256,
            "sites": sorted({site for ancestor in model.lineage for site in ancestor.sites}),
            "batchnorm": LOCAL if record.batchnorm == "local" else record.batchnorm,
        },
        "outcomes": {
            o: {
                "prevalence": model.prevalences[o],
                "threshold": record.thresholds[o].model_dump(),
                "calibration": c.model_dump() if (c := record.calibration[o]) else None,
            }
            for o in record.outputs
        },
        "meaning": {"probability": PROBABILITY, "likeness": likeness},
        "use": USE,
        "files": [
            {
                "file": visible(one.file),
                "problem": one.reading.unusable,
                "remarks": list(one.reading.remarks),
                "as_far": one.as_far,
                "unlike": None if one.as_far is None else one.unlike,
                "estimates": {o: vars(e) for o, e in one.estimates.items()},
            }
            for one in predictions
        ],
    }


def print_predictions(
    model: ExportedModel, predictions: Sequence[Prediction], likeness: str, console: Console
) -> None:
    """Print estimates, remarks and problems, with explanations.

    `likeness` is the text of `likeness_in_words`.
    """
    table = Table("file", "outcome", "logit", "probability", "threshold", "as far", box=None)
    for one in predictions:
        far = "not checked" if one.as_far is None else f"{one.as_far:.3f}"
        for outcome, e in one.estimates.items():
            table.add_row(
                visible(one.file),
                outcome,
                f"{e.logit:.3f}",
                "not calibrated" if e.probability is None else f"{e.probability:.3f}",
                "above" if e.above_threshold else "below",
                far,
            )
    console.print(table)
    for one in predictions:
        if one.reading.unusable is not None:
            _line(console, f"{visible(one.file)}: cannot be used: {one.reading.unusable}")
        if one.unlike:
            _line(
                console,
                f"{visible(one.file)}: UNLIKE the cohort's images: do not rely on its figures",
            )
        for remark in one.reading.remarks:
            _line(console, f"{visible(one.file)}: {remark}: {REMARKS[remark]}")
    for outcome, prevalence in model.prevalences.items():
        if prevalence is None:
            _line(console, f"{outcome}: not calibrated; its logits rank patients, no more")
            continue
        _line(console, f"{outcome}: probabilities for a prevalence of {prevalence:.3g}")
    if model.record.batchnorm == "local":
        _line(console, LOCAL)
    for explanation in (PROBABILITY, likeness, USE):
        _line(console, explanation)


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
