"""The report shows the figures of the summary, and the reason where there is no figure."""

import re
from html import unescape
from pathlib import Path

import pytest
from support.summaries import AWKWARD, empty_summary, make_summary

from fedrad.exchange.experiment import Experiment
from fedrad.server.report.report import render, write_report
from fedrad.server.results.summary import (
    Cell,
)


def words(html: str) -> str:
    """The text of a page: without tags, with single spaces."""
    body = re.sub(r"<(style|title)>.*?</\1>", " ", html, flags=re.DOTALL)
    body = re.sub(r"</?(span|em|strong)\b[^>]*>", "", body)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body)))


def test_the_answer_sets_the_within_site_figures_side_by_side() -> None:
    text = words(render(make_summary()))
    assert "the global model has an AUROC of 0.811 (95 % interval 0.761–0.861)" in text
    assert "the local-only models, each at its own hospital, with 0.722 (0.672–0.772)" in text
    assert "the base model with 0.631 (0.581–0.681)" in text


def test_overlap_is_reported_and_no_test_is_claimed() -> None:
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
    "text",
    [
        "0.871 ± 0.004",
        "0.821–0.911",
        "0.723",
        "27.5 %",  # pooled, its interval, site-only, share
        "one class: every patient of this site has the same outcome, so there is no AUROC",
        "75.0 % 18 of 24",
        "no patient with the outcome",
        "a logit of −0.420",
        "summed validation histograms",
        "fixed before round 1",
        "e" * 64,
        "2 trained, 1 evaluated only",
        "1 trained, 1 evaluated only",
        "celle: lost (the site's node is not connected)",
        "94.0 MB",
        "evaluates only: one class",
        "node 77",
        "lacks an outcome",
        "resnet50-res512-all of torchxrayvision",
        "1 h 12 min",
        "learning rates",
    ],
)
def test_what_the_summary_holds_is_on_the_page(text: str) -> None:
    assert text in words(render(make_summary()))


def test_withheld_counts_and_figures_say_so() -> None:
    text = words(render(make_summary(sites=("a", "b", "c", "small"))))
    assert "b tested patients of one class only" in text
    assert "below minimum: withheld by the site" in text
    assert "small withheld withheld withheld" in text
    assert "small withheld all figures, having too few patients of a class" in text


def test_patients_whom_a_budget_leaves_out_are_counted_in_the_report() -> None:
    plain = make_summary(sites=("a", "b"))
    entries = {
        "a": plain.site_entries["a"].model_copy(update={"left_out": 43}),
        "b": plain.site_entries["b"].model_copy(update={"left_out": None}),
    }
    text = words(render(plain.model_copy(update={"site_entries": entries})))
    assert "cpu 8 0.1.0 2.9.0 0 43" in text
    assert "cuda 8 0.1.0 2.9.0 1 withheld" in text


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
    text = words(
        render(
            plain.model_copy(update={"experiment": experiment, "cells": cells, "overall": overall})
        )
    )
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
def test_every_page_is_complete_and_requests_nothing_from_the_network(case: str) -> None:
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
    html = render(
        plain.model_copy(
            update={
                "experiment": {"name": evil, "outcomes": ["<b>bpd</b>"], evil: {evil: [evil]}},
                "absent": {evil: evil},
                "why": evil,
                "status": "failed",
                "evaluation_sha256": evil,
            }
        )
    )
    assert "<script" not in html
    assert "<b>bpd" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_plots_are_images_with_a_description_and_text() -> None:
    html = render(make_summary())
    plots = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', html)
    assert [p.split(":")[0].split(" per")[0] for p in plots] == [
        "Forest plot",
        "Validation AUROC",
        "Training loss",
    ]
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
