"""Choices by validation patients about the use of models: thresholds and calibrations."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from fedrad.exchange.figures import CalibrationLine, ModelName, OperatingPoint, Release
from fedrad.exchange.histogram import CELLS, Histogram, clip_negative_counts
from fedrad.models.calibration import Calibration
from fedrad.stats import thresholds
from fedrad.stats.calibration import calibrate

DEFAULT_THRESHOLD = CELLS // 2
"""A logit of 0, the border between the classes in training on balanced classes."""


class Choices(BaseModel):
    """Thresholds and calibrations, by model and outcome.

    Thresholds are indices of the grid's edges. A value is None if no site could release validation
    patients of both classes.
    """

    thresholds: dict[ModelName, dict[str, int | None]] = {}
    calibration: dict[ModelName, dict[str, Calibration | None]] = {}

    @property
    def operating(self) -> dict[ModelName, dict[str, OperatingPoint]]:
        """Model -> outcome -> threshold and calibration, with the default threshold for None."""
        return {
            model: {
                outcome: OperatingPoint(
                    threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
                    calibration=_line(self.calibration[model][outcome]),
                )
                for outcome, threshold in of_model.items()
            }
            for model, of_model in self.thresholds.items()
        }

    @property
    def by_default(self) -> dict[ModelName, list[str]]:
        """Model -> outcomes without a chosen threshold."""
        return {
            model: [outcome for outcome, chosen in of_model.items() if chosen is None]
            for model, of_model in self.thresholds.items()
        }


def choose(
    releases: Mapping[str, Release], models: Sequence[ModelName], outcomes: Sequence[str]
) -> Choices:
    """Choose threshold and calibration of each model and outcome.

    Parameters
    ----------
    releases
        Site -> release on validation patients. The histograms of all sites are used.
    models
        Models that all sites share.
    outcomes
        Outcomes of the experiment.
    """
    choices = Choices()
    for model in models:
        for outcome in outcomes:
            histograms: list[Histogram] = [
                clip_negative_counts(s.histogram)
                for release in releases.values()
                for s in release.scores
                if (s.model, s.outcome) == (model, outcome) and s.histogram
            ]
            choices.thresholds.setdefault(model, {})[outcome] = thresholds.common_threshold(
                histograms
            )
            choices.calibration.setdefault(model, {})[outcome] = calibrate(histograms)
    return choices


def _line(calibration: Calibration | None) -> CalibrationLine | None:
    if calibration is None:
        return None
    return CalibrationLine(intercept=calibration.intercept, slope=calibration.slope)
