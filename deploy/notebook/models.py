"""`fedrad.load_model` and `fedrad.predict`: an exported model and its estimates."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

import pandas as pd

from fedrad.client.predict import estimate
from fedrad.client.predict.estimate import ExportedModel
from fedrad.client.predict.output import PREDICTION_COLUMNS, prediction_rows

from . import AnyPath

NUMBERS = ("logit", "probability", "prevalence", "above_threshold")
"""Columns that are numbers even if no file has one."""


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
    files: AnyPath | Iterable[AnyPath],
    *,
    prevalence: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Estimate the outcomes of images, as `fedrad-site predict` does. Research use only.

    Parameters
    ----------
    model
        A model from `load_model`.
    files
        DICOM, PNG or JPEG files, or one of them.
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
        If `prevalence` names an outcome that the model lacks or has not calibrated, or is not in
        (0, 1).

    Examples
    --------
    >>> estimates = fedrad.predict(model, ["a.dcm", "b.png"], prevalence={"bpd": 0.2})
    >>> estimates[["file", "probability"]]
    """
    adapted = estimate.at_prevalence(model, prevalence or {})
    several = [files] if isinstance(files, str | PathLike) else files
    predictions, _ = estimate.predict(adapted, [str(file) for file in several])
    frame = pd.DataFrame(prediction_rows(adapted, predictions), columns=list(PREDICTION_COLUMNS))
    for name in NUMBERS:
        frame[name] = pd.to_numeric(frame[name])
    return frame.drop(columns=["as_far", "unlike"])
