"""The parts of the report after the table: each is shown if and only if it has figures."""

import pytest
from support.summaries import ODD, make_summary, rich

from fedrad.server.report.checklists import CLAIM, TEAM, TRIPOD_AI
from fedrad.server.report.outcome_results import outcome_results
from fedrad.server.report.panels import panel
from fedrad.server.report.report import pvalue, render, signed


def test_every_part_has_its_figures_on_the_page():
    page = render(rich())
    for shown in (
        "Was it worth joining?",
        "+0.031",
        "−0.010 to +0.072",
        "p = 0.2",
        "p = &lt;0.001",
        "one class",
        "ROC curves of the global model",
        "Calibration curves of the global model",
        "0.123",
        "Net benefit of the global model",
        "0.250",
        "Groups of patients",
        "below minimum",
        "between 0.610 and 0.930",
        "0.77",
        "Local-only models (rows)",
        "0.567",
        "Largest gap by sex: 0.080 between F and M",
        "50.0–70.0\N{NO-BREAK SPACE}%",
    ):
        assert shown in page, shown
    assert "<b>" not in page.replace("<br>", "").replace("<body>", "")


def test_parts_without_figures_are_omitted():
    page = render(make_summary())
    for heading in (
        "<h3>Was it worth",
        "<h3>Net benefit",
        "<h3>Groups",
        "<h3>Other hospitals",
        "<h3>ROC",
        "<h3>Calibration",
        "Local-only models (rows)",
    ):
        assert heading not in page, heading


def test_a_local_model_of_another_site_is_not_shown_as_the_sites_own():
    (result,) = outcome_results(rich())
    away = next(row for row in result.rows if row.site == ODD)
    assert away.cells["local"] is None or away.cells["local"].auroc != 0.567


def test_the_precision_of_a_test_set_is_wilsons_interval():
    (result,) = outcome_results(rich(("aachen", "bonn")))
    precision = panel(rich(("aachen", "bonn")), result, "0").precision
    assert precision["aachen"] == pytest.approx((0.595, 0.908), abs=0.001)  # 19 of 24
    assert precision["bonn"] is None, "no patient with the outcome"


def test_signs_and_small_p_values():
    assert (signed(-0.0123), signed(0.5), signed(None)) == ("−0.012", "+0.500", "–")
    assert (pvalue(0.00049), pvalue(0.0345), pvalue(1.0)) == ("<0.001", "0.035", "1")


def test_checklists_are_complete_and_leave_the_study_to_its_team():
    assert len(TRIPOD_AI) == 52
    numbers = [int("".join(filter(str.isdigit, item.number))) for item in TRIPOD_AI]
    assert sorted(set(numbers)) == list(range(1, 28))
    ends = [item.number.split("–") for item in CLAIM]
    covered = [n for end in ends for n in range(int(end[0]), int(end[-1]) + 1)]
    assert covered == list(range(1, 45))
    left = {item.about for item in TRIPOD_AI if item.where == TEAM}
    assert {"ethical approval", "funding", "interpretation"} <= left
