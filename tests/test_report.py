"""The report says what the summary says, in words where there is no figure, and nothing else."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from fedrad.exchange.experiment import Experiment
from fedrad.server.report import render, write_report
from fedrad.server.summary import (
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
            Cell(model=m, site=site, outcome=outcome, positives=0, negatives=48,
                 missing="one class", specificity=0.75 if m == "global" else None)
            for m in models
        ]  # fmt: skip
    if index == 3:
        return [Cell(model=m, site=site, outcome=outcome, missing="below minimum") for m in models]
    figures = {m: 0.61 + 0.09 * k + 0.013 * index for k, m in enumerate(models)}
    return [
        Cell(model=m, site=site, outcome=outcome, auroc=a, ci=(a - 0.11, min(1.0, a + 0.09)),
             sensitivity=0.75 if m == "global" else None,
             specificity=0.8 if m == "global" else None, **counts)
        for m, a in figures.items()
    ]  # fmt: skip


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
        Overall(model=m, outcome=o, within=a, within_ci=(a - 0.05, a + 0.05), macro=a - 0.004,
                macro_ci=(a - 0.06, a + 0.05), worst=a - 0.03, worst_site=next(iter(sites), None),
                pooled=a + 0.06, pooled_ci=(a + 0.01, a + 0.1), bound=0.004, site_only=0.723,
                within_share=0.275, positives=49, negatives=170,
                threshold=-0.42 if m == "global" else None,
                sensitivity=0.755 if m == "global" else None,
                specificity=0.788 if m == "global" else None)
        for o in outcomes
        for m, a in (("base", 0.631), ("local", 0.722), ("global", 0.811))
    ]  # fmt: skip
    rounds = [
        Round(round=n, stage=stage, seconds=70.4 + n, bytes_to_sites=94_000_000,
              bytes_from_sites=62_500_000,
              sites={s: site_round(i, n, outcomes) for i, s in enumerate(sites)})
        for n, stage in enumerate(STAGES, 1)
    ]  # fmt: skip
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
            fedrad="0.1.0", flwr="1.41.0", torch="2.9.0", base_sha256="b" * 64,
            base_description="resnet50-res512-all of torchxrayvision", model_sha256="a" * 64,
            started="2026-05-04T09:00:00+00:00", finished="2026-05-04T10:12:30+00:00",
        ),
        "site_entries": {
            s: SiteEntry(
                trains=i != 1, does_not_train_because="one class" if i == 1 else None,
                device="cuda" if i else "cpu", threads=8, fedrad="0.1.0", torch="2.9.0",
                set_aside=i,
                units={p: dict.fromkeys(outcomes, (None, None) if i == 3 else (24 + i, 60))
                       for p in ("train", "validation", "test")},
            )
            for i, s in enumerate(sites)
        },
        "absent": {"node 77": "the site's cohort lacks an outcome of the experiment"},
    }  # fmt: skip
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


def words(html: str) -> str:
    """What a person reads: tags gone, white space single."""
    body = re.sub(r"<(style|title)>.*?</\1>", " ", html, flags=re.DOTALL)
    body = re.sub(r"</?(span|em|strong)\b[^>]*>", "", body)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body)))


def empty_summary(status: str) -> Summary:
    """A run that never met its sites: everything that may be absent is."""
    return make_summary(
        sites=(), status=status, why="no quorum: 2 training sites are needed,\n  aachen: weights",
        models=["base", "global"], cells=[], overall=[], rounds=[], site_entries={}, absent={},
    )  # fmt: skip


def none_everywhere() -> Summary:
    plain = make_summary()
    return make_summary(
        experiment={},
        cells=[Cell(model=c.model, site=c.site, outcome="bpd") for c in plain.cells],
        overall=[Overall(model=m, outcome="bpd") for m in ("base", "local", "global")],
        rounds=[
            Round(round=1, stage="probe", seconds=0.0, bytes_to_sites=0, bytes_from_sites=0,
                  sites={"aachen": SiteRound(status="timeout")}),
            Round(round=2, stage="probe", seconds=0.0, bytes_to_sites=0, bytes_from_sites=0,
                  sites={}),
        ],
        provenance=plain.provenance.model_copy(
            update={"model_sha256": None, "started": "", "finished": ""}
        ),
    )  # fmt: skip


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
    "nan": make_summary(cells=[
        Cell(model="global", site="aachen", outcome="bpd", auroc=float("nan"))
    ]),
}  # fmt: skip


def test_the_answer_sets_the_within_site_figures_side_by_side() -> None:
    text = words(render(make_summary()))
    assert "the global model has an AUROC of 0.811 (95 % interval 0.761–0.861)" in text
    assert "the local-only models, each at its own hospital, with 0.722 (0.672–0.772)" in text
    assert "the base model with 0.631 (0.581–0.681)" in text


def test_overlap_is_told_and_no_test_is_claimed() -> None:
    text = words(render(make_summary()))
    assert "The intervals of the global and local-only models overlap;" in text
    assert "those of the global and base models do not overlap" in text
    assert "no paired test was made" in text
    assert "better" not in text.lower()


def test_the_smallest_site_is_named_with_its_counts() -> None:
    text = words(render(make_summary()))
    assert "The smallest test set is that of aachen: 24 patients with the outcome and 60" in text


def test_few_of_a_class_make_a_result_exploratory() -> None:
    plain = make_summary()
    few = [
        c.model_copy(update={"positives": 19}) if c.site == "celle" else c
        for c in plain.cells
        if c.site != "bonn"
    ]
    sites = ["aachen", "celle"]
    text = words(render(plain.model_copy(update={"cells": few, "sites": sites})))
    assert "Exploratory: celle tested fewer than 20 patients of a class." in text
    enough = [c for c in plain.cells if c.site != "bonn"]
    text = words(render(plain.model_copy(update={"cells": enough, "sites": sites})))
    assert "Exploratory" not in text


def test_models_scored_at_different_sites_are_said_to_be() -> None:
    plain = make_summary()
    cells = [c for c in plain.cells if c.model != "local:celle"]
    text = words(render(plain.model_copy(update={"cells": cells})))
    assert "different sites: the local-only figure on aachen and the global figure on" in text


@pytest.mark.parametrize(
    "said",
    [
        "0.871 ± 0.004", "0.821–0.911", "0.723", "27.5 %",  # pooled, its interval, site-only, share
        "one class: every patient of this site has the same outcome, so there is no AUROC",
        "75.0 % 18 of 24", "no patient with the outcome", "a logit of −0.420",
        "summed validation histograms", "fixed before round 1", "e" * 64,
        "2 trained, 1 evaluated only", "1 trained, 1 evaluated only",
        "celle: lost (the site's node is not connected)",
        "94.0 MB", "evaluates only: one class", "node 77", "lacks an outcome",
        "resnet50-res512-all of torchxrayvision", "1 h 12 min", "learning rates",
    ],
)  # fmt: skip
def test_what_the_summary_holds_is_there(said: str) -> None:
    assert said in words(render(make_summary()))


def test_withheld_counts_and_figures_say_so() -> None:
    text = words(render(make_summary(sites=("a", "b", "c", "small"))))
    assert "b tested patients of one class only" in text
    assert "below minimum: withheld by the site" in text
    assert "small withheld withheld withheld" in text
    assert "small withheld all figures, having too few patients of a class" in text


def test_a_missing_base_output_is_the_reason() -> None:
    plain = make_summary()
    experiment = Experiment(name="x", outcomes=["bpd"]).model_dump(mode="json")
    cells = [
        Cell(model="base", site=c.site, outcome="bpd", missing="not run")
        if c.model == "base"
        else c
        for c in plain.cells
    ]
    overall = [o for o in plain.overall if o.model != "base"]
    text = words(render(plain.model_copy(
        update={"experiment": experiment, "cells": cells, "overall": overall}
    )))  # fmt: skip
    assert "the base model without a figure (its weights have no output for this outcome)" in text


def test_a_run_that_ended_early_says_why() -> None:
    text = words(render(empty_summary("failed")))
    assert "Failed" in text
    assert "no quorum: 2 training sites are needed" in text
    assert "There is no result" in text


def test_phantoms_are_called_synthetic() -> None:
    plain = make_summary()
    made = plain.provenance.model_copy(update={"base_description": "trained on phantoms"})
    assert "say nothing about patients" in words(render(make_summary(provenance=made)))
    assert "say nothing about patients" not in words(render(plain))


@pytest.mark.parametrize("case", AWKWARD)
def test_every_page_is_whole_and_asks_nothing_of_the_network(case: str) -> None:
    html = render(AWKWARD[case])
    assert html == render(AWKWARD[case])
    assert html.count("Research use only; not a medical device") >= 2
    assert html.endswith("</html>\n")
    assert "://" not in html
    assert "<script" not in html
    assert not re.search(r"\b(src|srcset|action|data)=|@import|<link|<iframe|<object", html)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)', html))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", html))
    assert not re.search(r"\b(nan|None|inf)\b", words(html))
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))


def test_markup_in_names_is_text() -> None:
    evil = '<script>alert(1)</script>"&'
    plain = make_summary(sites=(evil, "b"), outcomes=("<b>bpd</b>",))
    html = render(plain.model_copy(update={
        "experiment": {"name": evil, "outcomes": ["<b>bpd</b>"], evil: {evil: [evil]}},
        "absent": {evil: evil}, "why": evil, "status": "failed", "evaluation_sha256": evil,
    }))  # fmt: skip
    assert "<script" not in html
    assert "<b>bpd" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_plots_are_images_with_a_description_and_text() -> None:
    html = render(make_summary())
    plots = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', html)
    assert [p.split(":")[0].split(" per")[0] for p in plots] == [
        "Forest plot", "Validation AUROC", "Training loss",
    ]  # fmt: skip
    assert re.search(r"<text[^>]*>celle</text>", html)
    assert not re.search(r"<text[^>]*>[^<]*no figure", html)
    assert re.search(r"<text[^>]*>layer4</text>", html)


def test_the_report_is_written_beside_its_summary(tmp_path: Path) -> None:
    summary = make_summary()
    summary.write(tmp_path)
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render(summary)
    assert not list(tmp_path.glob("*.partial"))


def test_without_a_summary_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path)
