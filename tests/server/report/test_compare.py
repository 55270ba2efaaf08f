"""Comparison of experiments: paired by fold, and refused if the patients are not the same."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.hospital import EXPERIMENT, run, with_

from fedrad.deploy.commands.main import app
from fedrad.exchange.experiment import Experiment
from fedrad.server.report.compare import Incomparable, compare, folders_by_name
from fedrad.server.report.compare_page import answer, render_comparison, write_comparison
from fedrad.server.results.parts import Cell, Overall
from fedrad.server.results.summary import Provenance, Summary
from fedrad.stats.resampled import corrected_resampled, signed_rank, unpaired_interval

FOLDS = 5


def summary(aurocs: dict[str, list[float | None]], name: str = "x", **settings) -> Summary:
    """A cross-validation whose global model had these AUROCs in the folds of its sites."""
    evaluation = {"folds": FOLDS, "fold_number": FOLDS - 1, "validation": 0.2}
    if not settings.pop("folds", True):
        evaluation = {}
    evaluation |= settings.pop("evaluation", {})
    plan = Experiment(name=name, outcomes=["y"], evaluation=evaluation, **settings)
    cells, of_sites = [], []
    for i, (site, folds) in enumerate(aurocs.items()):
        released = [f for f in folds if f is not None]
        mean = float(np.mean(released))
        positives = 20 + 10 * i
        cells.append(
            Cell(
                model="global",
                site=site,
                outcome="y",
                auroc=mean,
                ci=(mean - 0.1, mean + 0.1),
                positives=positives,
                negatives=40,
                folds=folds if evaluation.get("folds") else [],
            )
        )
        of_sites.append((positives * 40, mean))
    weights, means = np.array(of_sites).T
    within = float(weights @ means / weights.sum())
    return Summary(
        experiment=plan.model_dump(mode="json"),
        evaluation_sha256=plan.evaluation_sha256,
        status="completed",
        models=["global"],
        sites=list(aurocs),
        cells=cells,
        rounds=[],
        overall=[
            Overall(
                model="global", outcome="y", within=within, within_ci=(within - 0.05, within + 0.05)
            )
        ],
        provenance=Provenance(
            fedrad="0",
            flwr="0",
            torch="0",
            base_sha256="",
            base_description="",
            model_sha256=None,
            started="",
            finished="",
        ),
    )


def folds(rng: np.random.Generator, mean: float, spread: float = 0.02, number: int = FOLDS):
    return [float(v) for v in mean + spread * rng.standard_normal(number)]


# The tests


def test_the_corrected_test_is_its_formula_and_the_plain_one_without_the_correction():
    rng = np.random.default_rng(1)
    d = rng.normal(0.03, 0.04, 10).tolist()
    plain = corrected_resampled(d, 0.0, 0.95)
    expected = stats.ttest_1samp(d, 0.0)
    assert plain is not None
    assert plain.p == pytest.approx(expected.pvalue)
    assert plain.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    corrected = corrected_resampled(d, 1 / 9, 0.95)
    assert corrected is not None
    t = np.mean(d) / np.sqrt((1 / 10 + 1 / 9) * np.var(d, ddof=1))
    assert corrected.p == pytest.approx(2 * stats.t.sf(abs(t), 9))
    assert corrected.p > plain.p
    assert corrected.value == plain.value == pytest.approx(np.mean(d))


def test_folds_without_a_difference_give_no_interval_and_one_fold_no_test():
    same = corrected_resampled([0.1, 0.1, 0.1], 0.25, 0.95)
    assert same is not None
    assert (same.value, same.interval, same.p) == (pytest.approx(0.1), None, None)
    assert corrected_resampled([0.1], 0.25, 0.95) is None
    assert signed_rank([0.0, 0.0, 0.1]) is None


def test_the_papers_test_can_give_no_less_than_0_031_with_six_runs():
    test = signed_rank([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    assert test is not None
    assert test.p == test.least == pytest.approx(0.03125)
    mixed = [0.05, -0.01, 0.03, 0.02, -0.04, 0.06]
    test = signed_rank(mixed)
    assert test is not None
    assert test.p == pytest.approx(stats.wilcoxon(mixed).pvalue)


def test_what_is_not_paired_has_the_interval_of_independent_figures():
    low, high = unpaired_interval(0.8, (0.77, 0.83), 0.7, (0.66, 0.74))
    assert (low, high) == (pytest.approx(0.1 - 0.05), pytest.approx(0.1 + 0.05))


# The comparison


def test_experiments_are_paired_by_fold_over_the_sites_weighted_by_pairs():
    rng = np.random.default_rng(2)
    one = {"a": folds(rng, 0.80), "b": folds(rng, 0.75)}
    two = {"a": folds(rng, 0.70), "b": folds(rng, 0.70)}
    [contrast] = compare({"one": summary(one), "two": summary(two)}).contrasts
    weights = np.array([20, 30]) / 50
    apart = weights @ (np.array([one["a"], one["b"]]) - np.array([two["a"], two["b"]]))
    expected = corrected_resampled(apart.tolist(), 0.2 / (0.8 * 0.8), 0.95)
    assert expected is not None
    assert contrast.paired
    assert contrast.difference == pytest.approx(apart.mean())
    assert contrast.ci == pytest.approx(expected.interval)
    assert contrast.wilcoxon_p == pytest.approx(stats.wilcoxon(apart).pvalue)
    assert (contrast.wilcoxon_over, contrast.wilcoxon_least) == ("folds", pytest.approx(0.0625))


def test_where_divisions_are_repeated_the_papers_test_is_over_repeats():
    rng = np.random.default_rng(3)
    plan = {"evaluation": {"repeats": 6, "fold_number": 29}}
    one, two = ({"a": folds(rng, m, 0.02, 30)} for m in (0.8, 0.7))
    [contrast] = compare({"one": summary(one, **plan), "two": summary(two, **plan)}).contrasts
    runs = (np.array(one["a"]) - np.array(two["a"])).reshape(6, FOLDS).mean(1)
    assert contrast.folds == 30
    assert contrast.wilcoxon_p == pytest.approx(stats.wilcoxon(runs).pvalue)
    assert (contrast.wilcoxon_over, contrast.wilcoxon_least) == ("repeats", pytest.approx(0.03125))


def test_p_holds_for_all_differences_together():
    rng = np.random.default_rng(4)
    rows = {n: summary({"a": folds(rng, m)}) for n, m in (("x", 0.6), ("y", 0.7), ("z", 0.8))}
    contrasts = compare(rows).contrasts
    assert [(c.first, c.second, c.tests) for c in contrasts] == [
        ("x", "y", 3),
        ("x", "z", 3),
        ("y", "z", 3),
    ]
    least = min(contrasts, key=lambda c: c.p)
    assert least.p_holm == pytest.approx(min(1, 3 * least.p))
    assert all(c.p_holm >= c.p for c in contrasts)


def test_a_site_that_withholds_a_fold_takes_no_part_in_the_pairing():
    rng = np.random.default_rng(5)
    released, other = folds(rng, 0.8), folds(rng, 0.7)
    withheld = [None, *folds(rng, 0.9, number=FOLDS - 1)]
    one = summary({"a": released, "b": withheld})
    two = summary({"a": other, "b": folds(rng, 0.6)})
    [contrast] = compare({"one": one, "two": two}).contrasts
    assert (contrast.paired, contrast.sites) == (True, ["a"])
    assert contrast.difference == pytest.approx(np.mean(released) - np.mean(other))


def test_nothing_is_called_higher_that_is_not_paired_or_whose_interval_holds_0():
    rng = np.random.default_rng(6)
    far = [summary({"a": folds(rng, m)}, folds=False) for m in (0.9, 0.6)]
    [contrast] = compare({"one": far[0], "two": far[1]}).contrasts
    assert not contrast.paired
    assert contrast.p is None
    assert contrast.ci[0] > 0, "different, but by an interval that is not paired"
    assert not contrast.certain
    assert "higher" not in " ".join(answer([contrast], 0.95))
    near = [summary({"a": folds(rng, 0.7, 0.1)}) for _ in range(2)]
    assert not compare({"one": near[0], "two": near[1]}).contrasts[0].certain
    apart = [summary({"a": folds(rng, m, 0.001)}) for m in (0.6, 0.9)]
    result = compare({"low": apart[0], "high": apart[1]})
    [sentence] = answer(result.contrasts, 0.95)
    assert sentence.startswith("high has a higher within-site AUROC than low: +0.")
    assert "better" not in render_comparison(result, "compare.html.j2", escape=True)


def test_experiments_on_other_patients_are_refused_and_the_setting_named():
    rng = np.random.default_rng(7)
    figures = {"a": folds(rng, 0.8)}
    first = summary(figures)
    for settings, named_ in (
        ({"seed": 1}, "seed: 0 in one, 1 in other"),
        ({"evaluation": {"repeats": 2, "fold_number": 9}}, r"evaluation\.repeats: 1 in one, 2"),
        ({"evaluation": {"index_image": "latest"}}, r"evaluation\.index_image"),
        ({"evaluation": {"fold_number": 0}}, "other: is one fold"),
    ):
        with pytest.raises(Incomparable, match=named_):
            compare({"one": first, "other": summary(figures, **settings)})
    with pytest.raises(Incomparable, match="sites"):
        compare({"one": first, "other": summary({"b": folds(rng, 0.8)})})
    halves = [summary(figures, folds=False, evaluation={"test": test}) for test in (0.3, 0.5)]
    with pytest.raises(Incomparable, match=r"evaluation\.test: 0\.3 in one, 0\.5 in other"):
        compare({"one": halves[0], "other": halves[1]})
    failed = first.model_copy(update={"status": "failed"})
    with pytest.raises(Incomparable, match="other: is failed"):
        compare({"one": first, "other": failed})
    generating = summary(figures, task="progression", model={"weights": "random"})
    with pytest.raises(Incomparable, match="other: trains a generator"):
        compare({"one": first, "other": generating})
    cell = first.cells[0].model_copy(update={"positives": 21})
    grown = first.model_copy(update={"cells": [cell]})
    with pytest.raises(Incomparable, match="patients tested at a"):
        compare({"one": first, "other": grown})


def test_settings_that_an_earlier_version_did_not_know_are_at_their_defaults():
    figures = {"a": folds(np.random.default_rng(10), 0.8)}
    older = summary(figures)
    del older.experiment["evaluation"]["held_out"]
    del older.experiment["ablation"]
    assert compare({"one": older, "two": summary(figures)}).differing == {}


def test_the_files_say_what_the_comparison_holds(tmp_path: Path):
    rng = np.random.default_rng(8)
    dirs = {}
    for name, mean in (("control", 0.7), ("a|<b>", 0.8)):
        dirs[name] = tmp_path / name.strip("|<>").replace("|<", "")
        dirs[name].mkdir()
        experiment = summary({"a": folds(rng, mean), "b": folds(rng, mean)})
        experiment = experiment.model_copy(
            update={
                "overall": [
                    experiment.overall[0].model_copy(
                        update={"sensitivity": 0.8, "specificity": 0.6, "ppv": 0.5}
                    )
                ]
            }
        )
        (dirs[name] / "summary.json").write_text(experiment.model_dump_json())
    page = write_comparison(dirs, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [r["name"] for r in written["rows"]] == ["control", "a|<b>"]
    assert written["rows"][0]["balanced_accuracy"] == pytest.approx(0.7)
    assert written["rows"][0]["f1"] == pytest.approx(2 * 0.8 * 0.5 / 1.3)
    text = page.read_text()
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    markdown = (tmp_path / "out" / "compare.md").read_text()
    assert "| a\\|\\<b\\> |" in markdown
    table = list(csv.DictReader((tmp_path / "out" / "compare.csv").open()))
    assert len(table) == 6
    differences = list(csv.DictReader((tmp_path / "out" / "differences.csv").open()))
    assert float(differences[0]["difference"]) == written["contrasts"][0]["difference"]


def test_the_command_compares_finished_experiments(sites, tmp_path, capsys):
    del sites["one"]
    text = EXPERIMENT.replace("rounds = 2", "rounds = 1")
    for name, changed in (("one", text), ("two", text.replace("3e-3", "1e-3"))):
        plan = with_(changed.replace('"test"', f'"{name}"'), local_baseline="false")
        run(plan, sites, tmp_path / name)
    folders = [tmp_path / name / "out" for name in ("one", "two")]
    assert list(folders_by_name(folders)) == ["one", "two"]
    app(["compare", *map(str, folders), "--out", str(tmp_path / "c")], standalone_mode=False)
    assert "one − two" in capsys.readouterr().out
    assert (tmp_path / "c" / "compare.html").is_file()
    with pytest.raises(SystemExit):
        app(["compare", str(folders[0]), "--out", str(tmp_path / "d")], standalone_mode=False)
    assert "two or more experiments" in capsys.readouterr().err


def test_what_differs_in_the_settings_is_shown():
    rng = np.random.default_rng(9)
    figures = {"a": folds(rng, 0.8)}
    full = summary(figures, recipe={"preset": "full"})
    result = compare({"one": summary(figures), "two": full})
    assert result.differing["recipe.freezing"] == {"one": "progressive", "two": "none"}
    assert "seed" not in result.differing
    assert "| recipe.preset | probe+progressive+cutmix | full |" in render_comparison(
        result, "compare.md.j2", escape=False
    )
