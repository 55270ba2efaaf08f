"""Checks of the figures: against references, coverage, attacks, and cost at full size.

    python benchmarks/evaluation.py random --federations 1000
    python benchmarks/evaluation.py coverage --repeats 2000
    python benchmarks/evaluation.py attack --repeats 400
    python benchmarks/evaluation.py size

Each prints Markdown. All data are simulated from seeds.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
from attack import attack
from numpy.typing import NDArray
from random_federations import OPERATING, SiteScores, errors, federation, normals, release
from scipy.special import expit, logit
from scipy.stats import norm

from fedrad.client.figures.cross_validation import CrossValidation
from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.one_split import OneSplit
from fedrad.client.figures.scored_units import ScoredUnits
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.model_names import local_of
from fedrad.server.report.report import write_report
from fedrad.server.results.comparisons import comparisons, subgroups
from fedrad.server.results.overall import ReleasedFigures, cells, overall
from fedrad.server.results.summary import Provenance, Round, SiteRound, Summary
from fedrad.stats.auroc import lowest_site, site_estimate, within_site_auroc
from fedrad.stats.differences import difference
from fedrad.stats.exact import Units, auroc, deviations, variance
from fedrad.stats.new_site import new_site

Floats = NDArray[np.float64]
OPEN = Disclosure(minimum_units=1, minimum_bin=3)
DEFAULT = Disclosure(minimum_units=10, minimum_bin=3)


def main() -> None:
    """Do one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("random").add_argument("--federations", type=int, default=1000)
    commands.add_parser("coverage").add_argument("--repeats", type=int, default=2000)
    commands.add_parser("attack").add_argument("--repeats", type=int, default=400)
    commands.add_parser("size")
    arguments = parser.parse_args()
    if arguments.command == "random":
        random_federations(arguments.federations)
    elif arguments.command == "coverage":
        coverage(arguments.repeats)
    elif arguments.command == "attack":
        attack(arguments.repeats)
    else:
        size()


# Against references


def random_federations(number: int) -> None:
    """Every figure of so many random federations against scikit-learn or brute force."""
    sklearn.set_config(skip_parameter_validation=True)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for seed in range(number):
        for figure, error, bound in errors(federation(seed)):
            found[figure].append((error, bound))
        if (seed + 1) % 100 == 0:
            print(f"{seed + 1} federations", file=sys.stderr, flush=True)
    print("| figure | compared | largest error | median printed bound | left it |")
    print("| --- | --- | --- | --- | --- |")
    for figure, pairs in found.items():
        error, bound = np.array(pairs).T
        printed, left = "exact", ""
        if bound.any():
            printed, left = f"{np.median(bound):.4f}", str(int((error > bound + 1e-12).sum()))
        print(f"| {figure} | {len(error):,} | {error.max():.1e} | {printed} | {left} |")


# Coverage


def clustered(rng: np.random.Generator, patients: int, images: int, truth: float) -> SiteScores:
    """Patients with 1 to `images` images that share 80 % of their variance; a third are ill."""
    counts = rng.integers(1, images + 1, patients)
    whose = np.repeat(np.arange(patients), counts)
    ill = (np.arange(patients) % 3 == 0)[whose]
    shared = np.sqrt(0.8) * rng.normal(size=patients)[whose]
    noise = np.sqrt(0.2) * rng.normal(size=len(whose))
    logits = shared + noise + np.sqrt(2) * norm.ppf(truth) * ill
    return SiteScores(logits, ill.astype(np.float32), whose)


def covered(repeats: int, seed: int, hit: Callable[[np.random.Generator], bool | None]) -> str:
    """Share of repeats in which an interval holds the truth."""
    rng = np.random.default_rng(seed)
    hits = [h for _ in range(repeats) if (h := hit(rng)) is not None]
    return f"{100 * np.mean(hits):.1f}"


def coverage(repeats: int) -> None:
    """Coverage of the 95 % intervals."""
    sklearn.set_config(skip_parameter_validation=True)
    truths = (0.6, 0.8, 0.95)
    print("| interval | AUROC 0.6 | 0.8 | 0.95 |\n| --- | --- | --- | --- |")

    def row(
        name: str, make: Callable[[float], Callable[[np.random.Generator], bool | None]]
    ) -> None:
        found = [covered(repeats, 1000 + i, make(truth)) for i, truth in enumerate(truths)]
        print(f"| {name} | " + " | ".join(found) + " |", flush=True)

    for positives, negatives in ((10, 20), (10, 100), (20, 40), (20, 200), (50, 100), (200, 400)):
        row(
            f"one site, {positives} positives, {negatives} negatives",
            lambda truth, p=positives, n=negatives: (
                lambda rng: _site_holds(normals(rng, p, n, truth), truth)
            ),
        )
    for patients in (30, 60, 150):
        row(
            f"one site, {patients} patients with 1–6 images",
            lambda truth, n=patients: lambda rng: _site_holds(clustered(rng, n, 6, truth), truth),
        )
    row("within-site, 5 sites of 10–80 positives", lambda t: lambda rng: _within_holds(rng, t))
    row("lowest of 8 equal sites, 25 positives each", lambda t: lambda rng: _worst_holds(rng, t))
    row("pooled, 5 sites shifted apart", lambda t: lambda rng: _pooled_holds(rng, t, False))
    row(
        "pooled, the same with 1–6 images a patient",
        lambda t: lambda rng: _pooled_holds(rng, t, True),
    )
    row("difference of two models, 20 positives", lambda t: lambda rng: _paired_holds(rng, 20, t))
    row("difference of two models, 100 positives", lambda t: lambda rng: _paired_holds(rng, 100, t))
    for positives in (20, 50, 100):
        row(
            f"mean of 5 folds, one site of {positives} positives, {2 * positives} negatives",
            lambda truth, n=positives: lambda rng: _folds_hold(rng, n, truth),
        )
    for positives in (40, 100, 200):
        row(
            f"half of such a site as a group, {positives // 2} positives in it",
            lambda truth, n=positives: lambda rng: _folds_hold(rng, n, truth, group=True),
        )
    for sites in (4, 6, 12):
        row(
            f"a new site, foretold from {sites} sites that differ (τ 0.3)",
            lambda t, k=sites: lambda rng: _new_site_holds(rng, k, t),
        )


def _site_holds(data: SiteScores, truth: float) -> bool:
    estimate = site_estimate(release("a", data, OPEN, None).scores[0], 0.95)
    assert estimate is not None
    return estimate.interval[0] <= truth <= estimate.interval[1]


def _five(rng: np.random.Generator, truth: float) -> dict[str, SiteScores]:
    sizes = (10, 20, 30, 50, 80)
    return {f"s{i}": normals(rng, n, int(n * (1 + i / 2)), truth) for i, n in enumerate(sizes)}


def _within_holds(rng: np.random.Generator, truth: float) -> bool:
    some = [release(s, d, OPEN, None).scores[0] for s, d in _five(rng, truth).items()]
    estimate = within_site_auroc(some, 0.95)
    assert estimate is not None
    return estimate.interval[0] <= truth <= estimate.interval[1]


def _worst_holds(rng: np.random.Generator, truth: float) -> bool:
    some = {
        f"s{i}": release("a", normals(rng, 25, 50, truth), OPEN, None).scores[0] for i in range(8)
    }
    found = lowest_site(some, 0.95)
    assert found is not None
    return found.interval[0] <= truth <= found.interval[1]


def _pooled_holds(rng: np.random.Generator, truth: float, images: bool) -> bool:
    """Sites whose scores are shifted by up to one standard deviation; the true pooled AUROC is that
    of pairs of normals, weighted by the pairs that there are."""
    shifts = np.linspace(-0.5, 0.5, 5)
    data = {}
    for i, (site, alone) in enumerate(_five(rng, truth).items()):
        own = clustered(rng, 30 + 20 * i, 6, truth) if images else alone
        data[site] = SiteScores(own.logits + shifts[i], own.labels, own.patients)
    p = np.array([d.labels.sum() for d in data.values()])
    n = np.array([len(d.labels) for d in data.values()]) - p
    apart = (np.sqrt(2) * norm.ppf(truth) + shifts[:, None] - shifts[None, :]) / np.sqrt(2)
    expected = p @ norm.cdf(apart) @ n / (p.sum() * n.sum())
    unit = "image" if images else "patient"
    plan = Experiment.model_validate(
        {
            "name": "x",
            "outcomes": ["y"],
            "unit": unit,
            "evaluation": {"index_image": "all" if images else "earliest"},
        }
    )
    tested = ReleasedFigures({s: release(s, d, OPEN, None) for s, d in data.items()})
    interval = overall(tested, ["global"], plan)[0].pooled_ci
    assert interval is not None
    return bool(interval[0] <= expected <= interval[1])


def _paired_holds(rng: np.random.Generator, positives: int, truth: float) -> bool | None:
    """Two models of the same true AUROC whose scores correlate by one half."""
    data = normals(rng, positives, 2 * positives, truth)
    distance = np.sqrt(2) * norm.ppf(truth)
    shared = np.sqrt(0.5) * (data.logits - distance * data.labels)
    one, two = (
        shared + np.sqrt(0.5) * rng.normal(size=len(shared)) + distance * data.labels
        for _ in range(2)
    )
    units = Units(data.labels)
    spread = variance(deviations(one, units) - deviations(two, units), units)
    interval = difference(auroc(one, units) - auroc(two, units), spread, 0.95).interval
    return None if interval is None else interval[0] <= 0 <= interval[1]


def _folds_hold(
    rng: np.random.Generator, positives: int, truth: float, *, group: bool = False
) -> bool | None:
    """Five folds whose models are equally good but score on scales of their own; of all units, or
    of a group drawn by a coin."""
    data, folds = normals(rng, positives, 2 * positives, truth), []
    patients = np.arange(len(data.labels))
    for fold in range(5):
        own = patients % 5 == fold  # labels are sorted: each fold has its share of both classes
        logits = (data.logits[own] * rng.uniform(0.5, 2) + rng.normal())[:, None]
        sides = {"side": rng.integers(0, 2, len(logits))} if group else {}
        labels = data.labels[own][:, None]
        folds.append(ScoredUnits(labels, patients[own], {"global": logits}, sides))
    named = {"side": ("left", "right")} if group else {}
    release_ = CrossValidation(["y"], OPEN, "local:a", named).release(folds, [], ["global"], {})
    estimate = site_estimate((release_.subgroups if group else release_.scores)[0], 0.95)
    if estimate is None:
        return None
    return estimate.interval[0] <= truth <= estimate.interval[1]


def _new_site_holds(rng: np.random.Generator, sites: int, truth: float) -> bool:
    of_sites = expit(logit(truth) + 0.3 * rng.normal(size=sites + 1))
    some = [release("a", normals(rng, 40, 80, t), OPEN, None).scores[0] for t in of_sites[1:]]
    found = new_site(some, 0.95)
    assert found is not None
    return bool(found.prediction[0] <= of_sites[0] <= found.prediction[1])


# Size


def size(sites: int = 30, outcomes: int = 5, units: int = 300) -> None:
    """Time and memory of an evaluation of 30 sites, 5 outcomes and 33 models."""
    rng = np.random.default_rng(0)
    names = [f"site-{i:02}" for i in range(sites)]
    columns = [f"outcome {k}" for k in range(outcomes)]
    plan = Experiment.model_validate(
        {
            "name": "size",
            "outcomes": columns,
            "federation": {"sites": names},
            "evaluation": {"travel": True, "subgroups": {"sex": ["F", "M"], "age": [1, 5, 18]}},
        }
    )
    models = ["base", *map(local_of, names), "global", "best"]
    shared = {m: dict.fromkeys(columns, OPERATING) for m in ("base", "global", "best")}
    releases, at_site, sent = {}, [], []
    for name in names:
        labels = (rng.random((units, outcomes)) < 0.3).astype(np.float32)
        logits = {m: rng.normal(size=labels.shape) * 2 + labels for m in models}
        groups = {"sex": rng.integers(0, 2, units), "age": rng.integers(0, 4, units)}
        test, validation = (
            ScoredUnits(labels, None, logits, groups),
            ScoredUnits(labels, None, logits),
        )
        started = time.perf_counter()
        groups_of = plan.evaluation.subgroups
        split = OneSplit(columns, DEFAULT, local_of(name), groups_of, "test", shared)
        releases[name] = split.release([test], [validation], models, {})
        at_site.append(time.perf_counter() - started)
        sent.append(len(releases[name].model_dump_json()))
    started = time.perf_counter()
    tested = ReleasedFigures(releases, operating=shared)
    found, gaps = subgroups(tested, plan)
    parts = {
        "cells": cells(tested, models, plan),
        "overall": overall(tested, models, plan),
        "comparisons": comparisons(tested, plan),
        "subgroups": found,
        "gaps": gaps,
    }
    seconds = time.perf_counter() - started
    number = sum(map(len, parts.values()))
    print(f"{sites} sites × {outcomes} outcomes × {len(models)} models, {units} test units a site")
    print(f"a site: {np.median(at_site):.1f} s, {np.median(sent) / 1e3:.0f} kB released")
    print(f"the coordinator: {seconds:.1f} s for {number:,} parts; peak memory {peak():.2f} GiB")
    auroc = dict.fromkeys(columns, 0.7)
    in_round = {
        n: SiteRound(status="ok", seconds=60.0, units=84, loss=0.5, auroc=auroc) for n in names
    }
    rounds = [
        Round(
            round=r, stage="all", seconds=60.0, bytes_to_sites=0, bytes_from_sites=0, sites=in_round
        )
        for r in range(1, 31)
    ]
    summary = Summary(
        experiment=plan.model_dump(mode="json"),
        evaluation_sha256=plan.evaluation_sha256,
        status="completed",
        models=models,
        sites=names,
        rounds=rounds,
        **parts,
        provenance=Provenance(
            fedrad="",
            flwr="",
            torch="",
            base_sha256="",
            base_description="",
            model_sha256=None,
            started="",
            finished="",
        ),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        summary.write(folder)
        written = time.perf_counter() - started
        started = time.perf_counter()
        page = write_report(folder)
        drawn = time.perf_counter() - started
        sizes = [(folder / f).stat().st_size / 1e6 for f in ("summary.json", page.name)]
    print(f"summary.json: {sizes[0]:.1f} MB, written in {written:.1f} s")
    print(f"report.html: {sizes[1]:.1f} MB, drawn in {drawn:.1f} s; peak memory {peak():.2f} GiB")


def peak() -> float:
    """Largest resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
