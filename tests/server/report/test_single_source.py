"""The report names every figure that only one site vouches for."""

from support.summaries import make_summary

from fedrad.server.report.report import render, render_markdown
from fedrad.server.report.round_history import participation
from fedrad.server.report.single_source import sentences, single_sources
from fedrad.server.results.parts import ComparisonFigures, Gap, Overall, Pair, SubgroupFigures
from fedrad.server.results.summary import SiteRound, Summary

ALONE = make_summary(sites=("aachen", "bonn"))
"""bonn has patients of one class only, and so no AUROC."""


def figures(summary: Summary) -> set[str]:
    return {s.name for s in single_sources(summary, "bpd") if s.share == 1}


def test_figures_of_several_sites_are_not_marked() -> None:
    assert single_sources(make_summary(), "bpd") == []
    assert "One site’s word" not in render(make_summary())
    assert "†" not in render_markdown(make_summary())


def test_the_within_site_and_macro_figures_of_one_site_are_named_and_marked() -> None:
    assert figures(ALONE) == {
        f"the {figure} AUROC of the {model}"
        for figure in ("within-site", "macro")
        for model in ("base model", "local-only models", "global model")
    }
    html = render(ALONE)
    assert "One site’s word (†):</strong> Only aachen vouches for the within-site AUROC" in html
    assert html.count("</span>†") == 6
    assert "[0.761–0.861]†" in render_markdown(ALONE)


def test_figures_of_the_same_models_are_named_together() -> None:
    (sentence,) = sentences(single_sources(ALONE, "bpd"))
    assert sentence == (
        "Only aachen vouches for the within-site AUROC and the macro AUROC of the base model, the "
        "local-only models and the global model."
    )


def test_a_pooled_figure_of_one_histogram_and_a_threshold_of_one_site_are_named() -> None:
    plain = make_summary()
    pairs = [Pair(positives_of="celle", negatives_of="celle", auroc=0.8, bound=0.01)]
    overall = [
        o.model_copy(update={"pairs": pairs, "threshold_sites": ["celle"]}) for o in plain.overall
    ]
    named = figures(plain.model_copy(update={"overall": overall}))
    assert "the pooled AUROC of the global model" in named
    assert "sensitivity and specificity of the global model" in named


def test_a_figure_of_several_sites_that_rests_on_one_by_its_numbers_is_named_with_its_share() -> (
    None
):
    """A site that claims a million patients decides a mean that is weighted by pairs."""
    plain = make_summary()
    cells = [
        c.model_copy(update={"positives": 10**6, "negatives": 10**6}) if c.site == "celle" else c
        for c in plain.cells
    ]
    (sentence,) = sentences(single_sources(plain.model_copy(update={"cells": cells}), "bpd"))
    assert sentence.startswith("Nearly on celle alone rest the within-site AUROC")
    assert "(100 %)" in sentence
    assert "macro" not in sentence


def test_groups_gaps_and_comparisons_of_one_site_are_named() -> None:
    def group(name: str, site: str | None) -> SubgroupFigures:
        return SubgroupFigures(outcome="bpd", column="sex", group=name, site=site, auroc=0.8)

    def compared(site: str | None) -> ComparisonFigures:
        return ComparisonFigures(
            model="global", other="local", outcome="bpd", site=site, difference=0.1
        )

    summary = make_summary(
        subgroups=[
            group("F", "aachen"),
            group("M", "aachen"),
            group("M", "celle"),
            group("F", None),
            group("M", None),
        ],
        gaps=[Gap(outcome="bpd", column="sex", highest="F", lowest="M", gap=0.1)],
        comparisons=[compared("celle"), compared(None)],
    )
    assert figures(summary) == {
        "the group sex F",
        "the largest difference between groups of sex",
        "the comparison with the local-only model",
    }


def test_figures_of_the_only_held_out_site_are_named() -> None:
    plain = make_summary()
    experiment = plain.experiment | {"evaluation": {"held_out": ["celle"]}}
    summary = plain.model_copy(
        update={
            "experiment": experiment,
            "held_out": [Overall(model="global", outcome="bpd", within=0.8, macro=0.8)],
        }
    )
    assert "the within-site AUROC of the global model at held-out sites" in figures(summary)


def test_a_limited_weight_and_a_scaled_update_are_on_the_page() -> None:
    plain = make_summary()
    first = plain.rounds[0].model_copy(
        update={
            "clipped": True,
            "sites": {
                "a": SiteRound(status="ok", share=0.6, limited_by="share"),
                "b": SiteRound(status="ok", share=0.4, limited_by="declared", clipped=True),
            },
        }
    )
    assert participation(first) == [
        "2 trained",
        "a: weight limited to the largest share (share 60 %)",
        "b: weight limited to the count that it declared, or that others did (share 40 %)",
        "scaled down: update of b",
        "scaled down: step of the global model",
    ]
    html = render(plain.model_copy(update={"rounds": [first]}))
    assert "weight limited to the largest share (share 60 %)" in html
