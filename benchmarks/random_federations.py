"""Random federations, and their figures from fedrad's code and from scikit-learn or brute force on
the pooled scores. Used by `evaluation.py` and by the tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.one_split import OneSplit
from fedrad.client.figures.scored_units import ScoredUnits
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import CalibrationLine, OperatingPoint, Release
from fedrad.exchange.histogram import GRID
from fedrad.exchange.model_names import local_of
from fedrad.server.results.overall import ReleasedFigures, cells, overall
from fedrad.server.results.parts import Cell, Overall

Floats = NDArray[np.float64]
OPERATING = OperatingPoint(threshold=70, calibration=CalibrationLine(intercept=-0.4, slope=0.7))


@dataclass(frozen=True)
class SiteScores:
    """Raw logits (n,) of a site's units, their labels (n,) and patients (n,)."""

    logits: Floats
    labels: NDArray[np.float32]
    patients: NDArray[np.int64] | None = None


def federation(
    seed: int, sites: int | None = None, largest: int = 2000, clustered: bool = False
) -> dict[str, SiteScores]:
    """1–30 sites of 5–2,000 units; scores of any spread, some with ties, some saturated; some
    sites of one class."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, 31)) if sites is None else sites
    found = {}
    for index in range(number):
        n = int(np.exp(rng.uniform(np.log(5), np.log(largest))))
        labels = (rng.random(n) < rng.uniform(0.05, 0.95)).astype(np.float32)
        if rng.random() < 0.15:
            labels[:] = rng.integers(2)
        logits = rng.normal(rng.normal(0, 2), rng.uniform(0.1, 12), n)
        logits += labels * rng.uniform(-0.5, 4)
        kind = rng.choice(["plain", "ties", "saturated"], p=[0.6, 0.2, 0.2])
        if kind == "ties":
            logits = np.round(logits)
        elif kind == "saturated":
            logits = np.clip(logits * 50, -100, 100)
        patients = rng.integers(0, max(1, n // 2), n) if clustered else None
        found[f"s{index:02}"] = SiteScores(logits, labels, patients)
    return found


def normals(rng: np.random.Generator, positives: int, negatives: int, truth: float) -> SiteScores:
    """Two normals of equal variance whose AUROC is `truth`."""
    labels = np.repeat([1, 0], [positives, negatives]).astype(np.float32)
    return SiteScores(rng.normal(size=len(labels)) + np.sqrt(2) * norm.ppf(truth) * labels, labels)


def experiment(unit: str = "patient") -> Experiment:
    """An experiment of one outcome."""
    index = "all" if unit == "image" else "earliest"
    return Experiment.model_validate(
        {"name": "random", "outcomes": ["y"], "unit": unit, "evaluation": {"index_image": index}}
    )


def release(
    site: str,
    data: SiteScores,
    disclosure: Disclosure,
    operating: OperatingPoint | None = OPERATING,
    *,
    exact: bool = False,
) -> Release:
    """What a site with these scores of a global model releases; `exact`: before it is rounded."""
    units = ScoredUnits(
        data.labels[:, None],
        data.patients,
        {"global": data.logits[:, None]},
        digests={"global": "0"},
    )
    nobody = ScoredUnits(np.zeros((0, 1), np.float32), None, {})
    given = {} if operating is None else {"global": {"y": operating}}
    own = local_of(site)
    split = OneSplit(["y"], disclosure, own, {}, "test", given)
    figures = split.exact if exact else split.release
    return figures([units], [nobody], ["global"], {})


def tested(
    data: dict[str, SiteScores],
    disclosure: Disclosure,
    operating: OperatingPoint | None,
    *,
    exact: bool,
) -> ReleasedFigures:
    """What the coordinator has of the test patients of such a federation."""
    return ReleasedFigures(
        releases={s: release(s, d, disclosure, operating, exact=exact) for s, d in data.items()},
        operating={} if operating is None else {"global": {"y": operating}},
    )


def figures(
    data: dict[str, SiteScores],
    disclosure: Disclosure,
    operating: OperatingPoint | None = OPERATING,
    *,
    exact: bool = False,
) -> tuple[dict[str, Cell], Overall]:
    """Cells by site, and the figures over all sites; `exact`: from figures before rounding."""
    clustered = any(d.patients is not None for d in data.values())
    plan = experiment("image" if clustered else "patient")
    found = tested(data, disclosure, operating, exact=exact)
    return (
        {c.site: c for c in cells(found, ["global"], plan)},
        overall(found, ["global"], plan)[0],
    )


def errors(data: dict[str, SiteScores]) -> Iterator[tuple[str, float, float]]:
    """(figure, its error against the reference, its printed bound) for every figure of a random
    federation; a bound of 0 is that of an exact figure."""
    rule = Disclosure(minimum_units=1, minimum_bin=3)
    of_sites, whole = figures(data, rule, exact=True)
    for site, own in data.items():
        yield from _errors_of_cell(of_sites[site], own)
    yield from _errors_overall(whole, data)


def _errors_of_cell(cell: Cell, own: SiteScores) -> Iterator[tuple[str, float, float]]:
    y, z = own.labels.astype(float), own.logits
    assert OPERATING.calibration is not None
    calibrated = OPERATING.calibration.intercept + OPERATING.calibration.slope * z
    p = expit(calibrated)
    both = 0 < y.sum() < len(y)
    assert (cell.auroc is not None) == both
    if both:
        yield "AUROC", abs(_known(cell.auroc) - roc_auc_score(y, z)), 0.0
        precision = average_precision_score(y, z)
        yield "average precision", abs(_known(cell.ranks.average_precision) - precision), 0.0
        # The shift is what makes the mean probability right (saturated scores leave it a choice).
        shifted = expit(calibrated + _known(cell.probabilities.intercept)).mean()
        yield "calibration in the large", abs(shifted - y.mean()), 0.0
        if cell.probabilities.slope is not None:
            slope = _slope(calibrated, y)
            error = abs(cell.probabilities.slope - slope) / max(1.0, abs(slope))
            yield "calibration slope", error, 0.0
    yield "prevalence", abs(_known(cell.prevalence) - y.mean()), 0.0
    yield "Brier score", abs(_known(cell.probabilities.brier) - brier_score_loss(y, p)), 0.0
    yield "ECE", abs(_known(cell.ece) - _ece(cell, y, p)), 0.0
    if "sensitivity" not in cell.withheld:
        called = _called(z)
        for name, value, chosen, hit in (
            ("sensitivity", cell.decisions.sensitivity, y == 1, called),
            ("specificity", cell.decisions.specificity, y == 0, ~called),
            ("positive predictive value", cell.decisions.ppv, called, y == 1),
            ("negative predictive value", cell.decisions.npv, ~called, y == 0),
        ):
            assert (value is not None) == bool(chosen.any())
            if value is not None:
                yield name, abs(value - hit[chosen].mean()), 0.0
    for b in cell.net_benefit:
        yield "net benefit", abs(b.value - _benefit(b.threshold, calibrated, y)), b.bound
        everyone = y.mean() - b.threshold / (1 - b.threshold) * (1 - y.mean())
        yield "net benefit of all", abs(b.treat_all - everyone), 0.0


def _errors_overall(
    whole: Overall, data: dict[str, SiteScores]
) -> Iterator[tuple[str, float, float]]:
    y = np.concatenate([d.labels for d in data.values()]).astype(float)
    z = np.concatenate([d.logits for d in data.values()])
    assert OPERATING.calibration is not None
    calibrated = OPERATING.calibration.intercept + OPERATING.calibration.slope * z
    home = np.repeat(np.arange(len(data)), [len(d.labels) for d in data.values()])
    yield (
        "Brier score, all",
        abs(_known(whole.probabilities.brier) - brier_score_loss(y, expit(calibrated))),
        0.0,
    )
    for b in whole.net_benefit:
        yield "net benefit, all", abs(b.value - _benefit(b.threshold, calibrated, y)), b.bound
    own = [(d, roc_auc_score(d.labels, d.logits)) for d in data.values() if _both(d.labels)]
    if own:
        aurocs = np.array([a for _, a in own])
        pairs = np.array([d.labels.sum() * (1 - d.labels).sum() for d, _ in own])
        yield "within-site", abs(_known(whole.within) - np.average(aurocs, weights=pairs)), 0.0
        yield "macro", abs(_known(whole.macro) - aurocs.mean()), 0.0
        yield "worst site", abs(_known(whole.worst) - aurocs.min()), 0.0
    if not _both(y):
        return
    yield "pooled", abs(_known(whole.pooled) - roc_auc_score(y, z)), _known(whole.bound)
    prevalence = np.array([d.labels.mean() for d in data.values()])[home]
    yield "site-only", abs(_known(whole.site_only) - roc_auc_score(y, prevalence)), 0.0
    inside = sum(d.labels.sum() * (1 - d.labels).sum() for d in data.values())
    share = inside / (y.sum() * (1 - y).sum())
    yield "share of pairs within a site", abs(_known(whole.within_share) - share), 0.0
    negatives = {site: np.sort(d.logits[d.labels == 0]) for site, d in data.items()}
    for pair in whole.pairs:
        i, j = data[pair.positives_of], negatives[pair.negatives_of]
        auroc = _mann_whitney(i.logits[i.labels == 1], j)
        yield "AUC_ij", abs(pair.auroc - auroc), pair.bound


def _mann_whitney(positives: Floats, sorted_negatives: Floats) -> float:
    """AUROC by counting, ties half."""
    below = np.searchsorted(sorted_negatives, positives, side="left")
    upto = np.searchsorted(sorted_negatives, positives, side="right")
    return float((below + upto).mean() / 2 / len(sorted_negatives))


def _known(value: float | None) -> float:
    assert value is not None
    return value


def _both(y: NDArray[np.floating[Any]]) -> bool:
    return bool(0 < y.sum() < len(y))


def _called(z: Floats) -> NDArray[np.bool_]:
    return np.asarray(z >= GRID[OPERATING.threshold])


def _benefit(t: float, calibrated: Floats, y: Floats) -> float:
    called = calibrated >= logit(t)
    return float((called & (y == 1)).mean() - t / (1 - t) * (called & (y == 0)).mean())


def _slope(calibrated: Floats, y: Floats) -> float:
    spread = float(calibrated.std()) or 1.0
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=500)
    model.fit(calibrated[:, None] / spread, y)
    return float(model.coef_[0, 0]) / spread


def _ece(cell: Cell, y: Floats, p: Floats) -> float:
    """By brute force: units in the order of their probabilities, cut where the curve's bins end."""
    order = np.argsort(p, kind="stable")
    ends = np.cumsum([point.units for point in cell.calibration_curve])[:-1]
    parts = np.split(order, ends)
    return float(sum(abs(p[i].sum() - y[i].sum()) for i in parts)) / len(y)
