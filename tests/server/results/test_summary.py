"""`summary.json` and `cells.csv`: the fields that readers of earlier versions know."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT

from fedrad.exchange.figures import ConfusionMatrix, ProbabilityFigures, RankFigures
from fedrad.server.report.report import render
from fedrad.server.results.parts import PROBABILITIES, Cell, Decisions, Overall, SiteChoice
from fedrad.server.results.summary import CELL_COLUMNS, cell_columns, read_summary
from fedrad.stats.site_figures import PROBABILITY_FIGURES, RANK_FIGURES

EARLIER = Path(__file__).with_name("summary_0.1.json")
"""A summary of fedrad 0.1, when all figures of a cell were flat: one split, noise, a site without
histograms, a site that did not answer, and one of a cross-validation."""


@pytest.fixture
def earlier(tmp_path):
    (tmp_path / "summary.json").write_bytes(EARLIER.read_bytes())
    return read_summary(tmp_path)


def known_to(earlier: Any, written: Any) -> Any:
    """The written content, without the fields that were added since."""
    if isinstance(earlier, dict):
        return {key: known_to(value, written[key]) for key, value in earlier.items()}
    if isinstance(earlier, list) and len(earlier) == len(written):
        return [known_to(a, b) for a, b in zip(earlier, written, strict=True)]
    return written


def test_a_summary_of_an_earlier_version_is_written_as_it_was(earlier, tmp_path):
    earlier.write(tmp_path)
    written = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    content = json.loads(EARLIER.read_text("utf-8"))
    assert known_to(content, written) == content


def test_figures_that_are_flat_in_the_file_are_parts_in_python(earlier):
    cell = next(c for c in earlier.cells if (c.model, c.site) == ("global", "a"))
    flat = next(
        c
        for c in json.loads(EARLIER.read_text("utf-8"))["cells"]
        if (c["model"], c["site"]) == ("global", "a")
    )
    assert cell.ranks == RankFigures(average_precision=flat["average_precision"])
    assert cell.decisions.sensitivity == flat["sensitivity"]
    assert cell.decisions.npv_ci == tuple(flat["npv_ci"])
    assert cell.site_choice.threshold == flat["site_threshold"]
    assert cell.site_choice.ppv == flat["site_ppv"]
    assert cell.site_choice.brier == flat["site_brier"]
    assert cell.probabilities.slope == flat["calibration_slope"]
    whole = next(o for o in earlier.overall if o.model == "global")
    assert whole.probabilities.intercept is not None
    assert "Calibration" in render(earlier)


def test_fields_of_a_later_version_are_preserved():
    cell = Cell.model_validate(
        {"model": "m", "site": "s", "outcome": "y", "sensitivity": 0.5}
        | {"figure_of_tomorrow": 0.25}
    )
    assert cell.decisions.sensitivity == 0.5
    assert cell.model_dump()["figure_of_tomorrow"] == 0.25


def test_parts_given_whole_and_flat_are_the_same_cell():
    about = {"model": "m", "site": "s", "outcome": "y"}
    flat = Cell(**about, sensitivity=0.5, site_threshold=1.0, calibration_slope=0.9)
    parts = Cell(
        **about,
        decisions=Decisions(sensitivity=0.5),
        site_choice=SiteChoice(threshold=1.0),
        probabilities=ProbabilityFigures(slope=0.9),
    )
    assert flat == parts
    assert Cell.model_validate_json(parts.model_dump_json()) == parts


def test_the_columns_of_cells_csv_keep_their_places(earlier, tmp_path):
    earlier.write(tmp_path)
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert tuple(head[: len(CELL_COLUMNS)]) == CELL_COLUMNS
    assert head == cell_columns()
    at = next(i for i, c in enumerate(earlier.cells) if (c.model, c.site) == ("global", "a"))
    cell, row = earlier.cells[at], dict(zip(head, rows[at], strict=True))
    assert cell.ci is not None
    assert float(row["ci_low"]) == cell.ci[0]
    assert float(row["ppv"]) == cell.decisions.ppv
    assert float(row["brier"]) == cell.probabilities.brier
    assert row["missing"] == ""


def test_every_figure_that_a_site_computes_has_its_field_its_column_and_its_place_in_the_docs():
    of_ranks = {f.name for f in RANK_FIGURES}
    assert of_ranks == RankFigures.model_fields.keys()
    assert {f.name for f in PROBABILITY_FIGURES} == ProbabilityFigures.model_fields.keys()
    of_probabilities = {PROBABILITIES.key(f.name) for f in PROBABILITY_FIGURES}
    about = {"model": "m", "outcome": "y"}
    assert of_ranks | of_probabilities <= Cell(site="s", **about).model_dump().keys()
    assert of_probabilities <= Overall(**about).model_dump().keys()
    assert of_ranks | of_probabilities <= set(cell_columns())
    page = (ROOT / "docs" / "reports.md").read_text("utf-8")
    assert of_ranks | of_probabilities <= set(re.findall(r"`([a-z_]+)`", page))


def test_rates_are_those_of_the_counts_with_wilsons_intervals():
    counts = ConfusionMatrix(
        true_positives=8, false_negatives=2, false_positives=0, true_negatives=0
    )
    rates = Decisions.of(counts, 0.95)
    assert (rates.sensitivity, rates.ppv) == (0.8, 1.0)
    assert (rates.specificity, rates.specificity_ci) == (None, None), "no unit without the outcome"
    assert rates.npv == 0.0
    assert rates.sensitivity_ci == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Decisions.of(counts, None).sensitivity_ci is None
