"""Made-up summaries of experiments, ordinary and unusual ones."""

from typing import Any

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import ProbabilityFigures
from fedrad.server.results.parts import (
    ComparisonFigures,
    CurvePoint,
    Gap,
    NetBenefitPoint,
    NewSiteFigures,
    Pair,
    SubgroupFigures,
)
from fedrad.server.results.summary import (
    Cell,
    Overall,
    Provenance,
    Round,
    SiteEntry,
    SiteRound,
    Summary,
)

STAGES = ["probe"] * 4 + ["layer4"] + ["layer3"] * 2 + ["layer2"] * 3


def cells_of(site: str, index: int, outcome: str) -> list[Cell]:
    """A site's three cells; the second site has one class, the fourth withholds."""
    counts: dict[str, Any] = {"positives": 24 + index, "negatives": 60 + 3 * index}
    models = ["base", f"local:{site}", "global"]
    if index == 1:
        return [
            Cell(
                model=m,
                site=site,
                outcome=outcome,
                positives=0,
                negatives=48,
                missing="one class",
                specificity=0.75 if m == "global" else None,
            )
            for m in models
        ]
    if index == 3:
        return [Cell(model=m, site=site, outcome=outcome, missing="below minimum") for m in models]
    figures = {m: 0.61 + 0.09 * k + 0.013 * index for k, m in enumerate(models)}
    return [
        Cell(
            model=m,
            site=site,
            outcome=outcome,
            auroc=a,
            ci=(a - 0.11, min(1.0, a + 0.09)),
            sensitivity=0.75 if m == "global" else None,
            specificity=0.8 if m == "global" else None,
            **counts,
        )
        for m, a in figures.items()
    ]


def settings_of(outcomes: tuple[str, ...]) -> dict[str, Any]:
    """An experiment's settings as the summary holds them; outcomes as they come."""
    experiment = Experiment(
        name="bpd-day1", outcomes=["any"], model={"base_outputs": {"any": "Lung Opacity"}}
    ).model_dump(mode="json")
    experiment["model"]["base_outputs"] = dict.fromkeys(outcomes, "Lung Opacity")
    return experiment | {"outcomes": list(outcomes)}


def make_summary(
    sites: tuple[str, ...] = ("aachen", "bonn", "celle"),
    outcomes: tuple[str, ...] = ("bpd",),
    **changes: Any,
) -> Summary:
    """A plausible summary of a completed experiment."""
    cells = [c for o in outcomes for i, s in enumerate(sites) for c in cells_of(s, i, o)]
    overall = [
        Overall(
            model=m,
            outcome=o,
            within=a,
            within_ci=(a - 0.05, a + 0.05),
            macro=a - 0.004,
            macro_ci=(a - 0.06, a + 0.05),
            worst=a - 0.03,
            worst_site=next(iter(sites), None),
            pooled=a + 0.06,
            pooled_ci=(a + 0.01, a + 0.1),
            bound=0.004,
            site_only=0.723,
            within_share=0.275,
            positives=49,
            negatives=170,
            threshold=-0.42 if m == "global" else None,
            sensitivity=0.755 if m == "global" else None,
            specificity=0.788 if m == "global" else None,
        )
        for o in outcomes
        for m, a in (("base", 0.631), ("local", 0.722), ("global", 0.811))
    ]
    rounds = [
        Round(
            round=n,
            stage=stage,
            seconds=70.4 + n,
            bytes_to_sites=94_000_000,
            bytes_from_sites=62_500_000,
            sites={s: site_round(i, n, outcomes) for i, s in enumerate(sites)},
        )
        for n, stage in enumerate(STAGES, 1)
    ]
    values: dict[str, Any] = {
        "experiment": settings_of(outcomes),
        "evaluation_sha256": "e" * 64,
        "status": "completed",
        "models": ["base", *(f"local:{s}" for s in sites), "global"],
        "sites": list(sites),
        "cells": cells,
        "overall": overall,
        "rounds": rounds,
        "provenance": Provenance(
            fedrad="0.1.0",
            flwr="1.41.0",
            torch="2.9.0",
            base_sha256="b" * 64,
            base_description="resnet50-res512-all of torchxrayvision",
            model_sha256="a" * 64,
            started="2026-05-04T09:00:00+00:00",
            finished="2026-05-04T10:12:30+00:00",
        ),
        "site_entries": {
            s: SiteEntry(
                trains=i != 1,
                does_not_train_because="one class" if i == 1 else None,
                device="cuda" if i else "cpu",
                threads=8,
                fedrad="0.1.0",
                torch="2.9.0",
                set_aside=i,
                units={
                    p: dict.fromkeys(outcomes, (None, None) if i == 3 else (24 + i, 60))
                    for p in ("train", "validation", "test")
                },
            )
            for i, s in enumerate(sites)
        },
        "absent": {"node 77": "the site's cohort lacks an outcome of the experiment"},
    }
    return Summary(**(values | changes))


def site_round(index: int, number: int, outcomes: tuple[str, ...]) -> SiteRound:
    """A site's round; the third is lost in round 3, the second only evaluates."""
    if index == 2 and number == 3:
        return SiteRound(status="lost", why="the site's node is not connected")
    auroc = dict.fromkeys(outcomes, None if index == 3 else 0.55 + 0.02 * number + 0.02 * index)
    if index == 1:
        return SiteRound(status="evaluated", seconds=3.0, auroc=dict.fromkeys(outcomes))
    return SiteRound(
        status="ok", seconds=61.2, units=84, loss=0.7 - 0.03 * number + 0.01 * index, auroc=auroc
    )


def empty_summary(status: str) -> Summary:
    """A run that never met its sites: everything that may be absent is."""
    return make_summary(
        sites=(),
        status=status,
        why="no quorum: 2 training sites are needed,\n  aachen: weights",
        models=["base", "global"],
        cells=[],
        overall=[],
        rounds=[],
        site_entries={},
        absent={},
    )


def none_everywhere() -> Summary:
    plain = make_summary()
    return make_summary(
        experiment={},
        cells=[Cell(model=c.model, site=c.site, outcome="bpd") for c in plain.cells],
        overall=[Overall(model=m, outcome="bpd") for m in ("base", "local", "global")],
        rounds=[
            Round(
                round=1,
                stage="probe",
                seconds=0.0,
                bytes_to_sites=0,
                bytes_from_sites=0,
                sites={"aachen": SiteRound(status="timeout")},
            ),
            Round(
                round=2, stage="probe", seconds=0.0, bytes_to_sites=0, bytes_from_sites=0, sites={}
            ),
        ],
        provenance=plain.provenance.model_copy(
            update={"model_sha256": None, "started": "", "finished": ""}
        ),
    )


AWKWARD = {
    "failed": empty_summary("failed"),
    "stopped": empty_summary("stopped"),
    "none everywhere": none_everywhere(),
    "one site": make_summary(sites=("alone",)),
    "one round": make_summary(rounds=make_summary().rounds[:1]),
    "twelve sites": make_summary(sites=tuple(f"site-{i:02d}-" + "x" * 40 for i in range(12))),
    "several outcomes": make_summary(outcomes=("bpd", "pneumonia", "effusion")),
    "no entries": make_summary(site_entries={}),
    "dollars": make_summary(sites=("$x_1$", "_hidden", "%s {{ 7*7 }}")),
    "nan": make_summary(
        cells=[Cell(model="global", site="aachen", outcome="bpd", auroc=float("nan"))]
    ),
}


ODD = '<b>&"site"'
"""A name that would be markup if it were not escaped."""


def rich(sites=("aachen", ODD)):
    """A summary with figures of every kind."""
    plain = make_summary(sites=sites)
    curve = [CurvePoint(probability=0.2, observed=0.15, units=30)]
    benefit = [
        NetBenefitPoint(threshold=t, value=0.3 - t / 4, bound=0.01, treat_all=0.3 - t)
        for t in (0.05, 0.1, 0.15, 0.2)
    ]
    cells = [
        c.model_copy(
            update={
                "roc": [(0.0, 0.0), (0.2, 0.7), (1.0, 1.0)],
                "calibration_curve": curve,
                "probabilities": ProbabilityFigures(brier=0.123, intercept=-0.4, slope=0.9),
                "ece": 0.05,
                "prevalence": 0.28,
                "decisions": c.decisions.model_copy(update={"ppv": 0.61, "ppv_ci": (0.5, 0.7)}),
            }
        )
        if c.model == "global" and c.auroc
        else c
        for c in plain.cells
    ]
    cells.append(Cell(model=f"local:{sites[0]}", site=sites[1], outcome="bpd", auroc=0.567))
    overall = [
        o.model_copy(
            update={
                "net_benefit": benefit,
                "pairs": [
                    Pair(positives_of=a, negatives_of=b, auroc=0.77, bound=0.02)
                    for a in sites
                    for b in sites
                ],
                "new_site": NewSiteFigures(
                    mean=0.8, ci=(0.7, 0.9), prediction=(0.61, 0.93), tau=0.3, sites=4
                ),
            }
        )
        if o.model == "global"
        else o
        for o in plain.overall
    ]
    compared = {"model": "global", "outcome": "bpd", "tests": 2}
    return plain.model_copy(
        update={
            "cells": cells,
            "overall": overall,
            "comparisons": [
                ComparisonFigures(
                    other=f"local:{sites[0]}",
                    site=sites[0],
                    difference=0.031,
                    ci=(-0.01, 0.072),
                    p=0.1,
                    p_holm=0.2,
                    **compared,
                ),
                ComparisonFigures(
                    other="local",
                    difference=-0.0004,
                    ci=(-0.02, 0.019),
                    p=0.9,
                    p_holm=0.0004,
                    **compared,
                ),
                ComparisonFigures(other="base", site=sites[1], missing="one class", **compared),
            ],
            "subgroups": [
                SubgroupFigures(
                    outcome="bpd",
                    column="sex",
                    group=ODD,
                    auroc=0.71,
                    ci=(0.6, 0.8),
                    positives=20,
                    negatives=30,
                ),
                SubgroupFigures(outcome="bpd", column="sex", group="M", missing="below minimum"),
            ],
            "gaps": [Gap(outcome="bpd", column="sex", highest="F", lowest="M", gap=0.08)],
        }
    )
