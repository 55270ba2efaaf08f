"""Checks whether the acquisition of an image predicts the outcome, and how easy the task is."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fedrad.client.cohort.cells import day
from fedrad.client.cohort.evidence import Evidence
from fedrad.stats.exact import Units, auroc_variance
from fedrad.stats.intervals import large_sample_interval

from .check import Check, CheckFinding
from .numbers import CONFIDENCE

WARNING_LIMIT = 0.55
"""The check warns if the lower limit of the AUROC of tags alone is above this. It exceeds 0.5
because folds share their training data, so that out-of-fold scores vary more than DeLong's variance
states (false alarms: benchmarks/RESULTS.md)."""
FEWEST_PATIENTS = 20
"""Fewest patients of each class for these checks."""
FOLDS = 5

Estimator = Callable[[], Any]


def tags_classifier() -> Any:
    """Gradient boosting: it learns thresholds and combinations of tags, and allows missing tags."""
    return HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=8,
        min_samples_leaf=10,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )


def tag_features(subject: Evidence) -> dict[str, NDArray[np.float64]]:
    """Features of the acquisition of each image: tag -> columns (n, k).

    Texts are one-hot, those of fewer than 5 images in one column. Numbers are as they are, NaN if
    unknown. Tags that do not vary are left out.
    """
    tags = [reading.tags for reading in subject.readings]
    table_view, table_scanner = subject.column("view"), subject.column("scanner")
    words = {
        "view": [t.view or v for t, v in zip(tags, table_view, strict=True)],
        "scanner": [
            " ".join(filter(None, (t.manufacturer, t.model, s)))
            for t, s in zip(tags, table_scanner, strict=True)
        ],
        "modality": [t.modality for t in tags],
        "body part": [t.body_part for t in tags],
        "photometric interpretation": [t.photometric for t in tags],
        "compression": [t.transfer_syntax for t in tags],
        "file type": [row.file.suffix.lower() if row.file else "" for row in subject.rows],
    }
    dates = [
        day(t.acquired) or day(row.values.get("date", ""))
        for t, row in zip(tags, subject.rows, strict=True)
    ]
    shape = np.array([[t.rows, t.columns] for t in tags], float).reshape(-1, 2)
    shape[shape == 0] = np.nan
    numbers = {
        "image size": np.column_stack([shape, shape[:, 0] / shape[:, 1]]),
        "bits": np.array([t.bits for t in tags], float)[:, None],
        "tube voltage": np.array([t.kvp for t in tags], float)[:, None],
        "exposure": np.array([[t.exposure, t.exposure_index] for t in tags], float).reshape(-1, 2),
        "pixel spacing": np.array([t.spacing for t in tags], float)[:, None],
        "date": np.array([d.toordinal() if d else np.nan for d in dates], float)[:, None],
    }
    encoder = OneHotEncoder(min_frequency=5, handle_unknown="ignore", sparse_output=False)
    columns = {
        name: np.asarray(encoder.fit_transform(np.array(values, dtype=object)[:, None]))
        for name, values in words.items()
        if len(set(values)) > 1
    }
    columns |= {name: values for name, values in numbers.items() if _varies(values)}
    return columns


def _varies(values: NDArray[np.float64]) -> bool:
    return any(
        len(np.unique(column[~np.isnan(column)])) > 1 or 0 < np.isnan(column).mean() < 1
        for column in values.T
    )


def cross_validated_auroc(
    estimator: Estimator,
    features: NDArray[np.floating[Any]],
    labels: NDArray[np.float64],
    patients: NDArray[np.int64],
) -> tuple[float, tuple[float, float]]:
    """AUROC of out-of-fold scores and its 95 % interval, clustered by patient.

    No patient is both in the training and in the test set of a fold. A perfect ranking has the
    interval [1, 1].

    Parameters
    ----------
    estimator
        Makes an untrained classifier with `fit` and `decision_function`.
    features
        (n, k).
    labels
        (n,), 0 or 1.
    patients
        (n,), number of the patient.
    """
    scores = np.zeros(len(labels))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(features, labels, patients):
        model = estimator().fit(features[train], labels[train])
        scores[test] = model.decision_function(features[test])
    auroc = float(roc_auc_score(labels, scores))
    if not 0 < auroc < 1:
        return auroc, (auroc, auroc)
    variance = auroc_variance(scores, Units(labels.astype(np.float32), patients))
    return auroc, large_sample_interval(auroc, variance, CONFIDENCE)


def _known(
    subject: Evidence, at: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]] | None:
    """Rows, labels and patients of the units whose outcome is known; None if there are too few
    patients."""
    labels = subject.labels[subject.units, at]
    rows = subject.units[~np.isnan(labels)]
    labels, patients = subject.labels[rows, at], subject.patients[rows]
    if min(len(np.unique(patients[labels == value])) for value in (0, 1)) < FEWEST_PATIENTS:
        return None
    return rows, labels, patients


class Shortcuts(Check[Evidence]):
    """Outcomes that scanner, view, image size or exposure predict."""

    name = "shortcuts"
    problem = (
        "If the acquisition of an image predicts the outcome, a network may learn the scanner "
        "instead of the lung, and fail elsewhere."
    )
    remedy = (
        "Find out why these tags go with the outcome (another ward, another year, another scanner "
        "for the ill). Match patients by them, or leave one kind of image out; read figures of "
        "this site with this in mind."
    )

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """Gradient boosting on all tags; then on each tag alone, to name those that predict."""
        columns = tag_features(subject)
        for at, outcome in enumerate(subject.table.outcomes):
            known = _known(subject, at)
            if known is None:
                yield CheckFinding(
                    f"{outcome}: fewer than {FEWEST_PATIENTS} patients of a class; not asked",
                    severity="information",
                )
                continue
            if not columns:
                yield CheckFinding(f"{outcome}: no tag varies", severity="information")
                continue
            rows, labels, patients = known
            features = np.column_stack(list(columns.values()))[rows]
            auroc, (low, high) = cross_validated_auroc(tags_classifier, features, labels, patients)
            sentence = (
                f"{outcome}: tags alone reach an AUROC of {auroc:.2f} [{low:.2f}, {high:.2f}]"
            )
            if low <= WARNING_LIMIT:
                yield CheckFinding(f"{sentence}: no shortcut seen", severity="information")
                continue
            alone = {
                name: cross_validated_auroc(tags_classifier, values[rows], labels, patients)
                for name, values in columns.items()
            }
            predictors = sorted(
                ((a, name) for name, (a, (least, _)) in alone.items() if least > WARNING_LIMIT),
                reverse=True,
            )
            names = ", ".join(f"{name} {a:.2f}" for a, name in predictors)
            yield CheckFinding(f"{sentence}, carried by {names or 'several tags together'}")


class EasyTask(Check[Evidence]):
    """Outcomes that a linear model predicts from thumbnails."""

    name = "how easy the task is"
    problem = "A task that small grey pictures solve says little about what a network sees."
    remedy = "Read high figures of this site with this in mind."
    severity = "information"

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """Logistic regression on 32 x 32 pixels, strongly regularised, cross-validated."""
        side = subject.thumbnails.shape[1] // 2
        for at, outcome in enumerate(subject.table.outcomes):
            known = _known(subject, at)
            if known is None:
                continue
            rows, labels, patients = known
            small = (
                np.concatenate(
                    [
                        subject.thumbnails[part]
                        .reshape(len(part), side, 2, side, 2)
                        .mean(axis=(2, 4))
                        for part in np.array_split(rows, max(1, len(rows) // 1000))
                    ]
                )
                .reshape(len(rows), -1)
                .astype(np.float32)
            )
            auroc, (low, high) = cross_validated_auroc(
                lambda: make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300)),
                small,
                labels,
                patients,
            )
            yield CheckFinding(
                f"{outcome}: a linear model on {side} x {side} pixels reaches an AUROC of "
                f"{auroc:.2f} [{low:.2f}, {high:.2f}]"
            )
