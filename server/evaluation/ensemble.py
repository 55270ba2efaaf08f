"""How far the final model goes from the base to the trained one: chosen on validation patients."""

import logging
from collections.abc import Mapping, Sequence

from fedrad.exchange.messages import Counts, Monitoring
from fedrad.models.ensemble import interpolate
from fedrad.server.results.summary import Candidate, Ensemble
from fedrad.server.rounds.best_model import validation_units, within_site
from fedrad.server.rounds.global_model import GlobalModel

from .site_requests import Questions

log = logging.getLogger("fedrad.server")

Figures = Mapping[str, Monitoring]
"""Outcome -> figures of one model on one site's validation patients."""


def choose_ensemble(questions: Questions) -> Ensemble | None:
    """The best mixture by the sites' validation figures; None where none is asked for.

    The trained model itself (alpha 1) is always a candidate.
    """
    federation = questions.federation
    grid = federation.experiment.evaluation.ensemble
    if not grid:
        return None
    alphas = sorted({*grid, 1.0})
    log.info("Weight-space ensemble with the base, on the validation patients")
    ensemble = best(alphas, questions.validation(alphas), validation_units(federation))
    for candidate in ensemble.candidates:
        shown = "none" if candidate.auroc is None else f"{candidate.auroc:.3f}"
        log.info("  alpha %.3g: validation AUROC %s", candidate.alpha, shown)
    log.info("  chosen: alpha %.3g%s", ensemble.alpha, f" ({ensemble.why})" if ensemble.why else "")
    return ensemble


def mix(model: GlobalModel, alpha: float) -> None:
    """Put a mixture with the base in the place of the trained network."""
    model.network = interpolate(model.base.network, model.network, alpha)


def best(
    alphas: Sequence[float],
    figures: Mapping[str, Sequence[Figures]],
    counts: Mapping[str, Mapping[str, Counts]],
) -> Ensemble:
    """The alpha with the largest within-site validation AUROC, averaged over outcomes.

    `figures`: site -> one entry per alpha; `counts`: site -> outcome -> validation units. Of equal
    ones the largest alpha, nearest to what was trained, wins; so too where no site gave one.
    """
    candidates = [
        Candidate(alpha=alpha, auroc=within_site(aurocs(figures, i), counts))
        for i, alpha in enumerate(alphas)
    ]
    known = [c for c in candidates if c.auroc is not None]
    if not known:
        why = "no site could release a validation AUROC"
        return Ensemble(alpha=1.0, candidates=candidates, why=why)
    chosen = max(known, key=lambda c: (c.auroc, c.alpha))
    return Ensemble(alpha=chosen.alpha, candidates=candidates)


def aurocs(
    figures: Mapping[str, Sequence[Figures]], index: int
) -> dict[str, dict[str, float | None]]:
    """Site -> outcome -> AUROC of the mixture at a place of the list."""
    return {
        site: {outcome: m.auroc for outcome, m in of_site[index].items()}
        for site, of_site in figures.items()
    }
