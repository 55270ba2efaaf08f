"""Choice of the final mixture of base and trained weights, on validation patients."""

import logging
from collections.abc import Mapping, Sequence

from fedrad.exchange.messages import Counts, Monitoring
from fedrad.models.ensemble import interpolate
from fedrad.server.results.summary import Candidate, Ensemble
from fedrad.server.rounds.best_model import mean_within_site_auroc, validation_units
from fedrad.server.rounds.global_model import GlobalModel

from .site_requests import SiteRequests

log = logging.getLogger("fedrad.server")

MonitoringFigures = Mapping[str, Monitoring]
"""Outcome -> monitoring of one model on one site's validation patients."""


def choose_ensemble(requests: SiteRequests) -> Ensemble | None:
    """Choose the best mixture by the sites' validation figures.

    The trained model itself (alpha 1) is always a candidate. None where the experiment asks for no
    mixture.
    """
    federation = requests.federation
    grid = federation.experiment.evaluation.ensemble
    if not grid:
        return None
    alphas = sorted({*grid, 1.0})
    log.info("Weight-space ensemble with the base, on the validation patients")
    ensemble = best_mixture(alphas, requests.validation(alphas), validation_units(federation))
    for candidate in ensemble.candidates:
        shown = "none" if candidate.auroc is None else f"{candidate.auroc:.3f}"
        log.info("  alpha %.3g: validation AUROC %s", candidate.alpha, shown)
    log.info("  chosen: alpha %.3g%s", ensemble.alpha, f" ({ensemble.why})" if ensemble.why else "")
    return ensemble


def mix(model: GlobalModel, alpha: float) -> None:
    """Replace the trained network by its mixture with the base; alpha is the trained share."""
    model.network = interpolate(model.base.network, model.network, alpha)


def best_mixture(
    alphas: Sequence[float],
    figures: Mapping[str, Sequence[MonitoringFigures]],
    counts: Mapping[str, Mapping[str, Counts]],
) -> Ensemble:
    """The alpha with the largest within-site validation AUROC, averaged over outcomes.

    Parameters
    ----------
    alphas
        Candidates in [0, 1], each the share of the trained weights.
    figures
        Site -> one entry per alpha.
    counts
        Site -> outcome -> validation units of each class.

    Returns
    -------
    Ensemble
        On a tie the largest alpha, which is nearest to the trained model. Alpha 1 where no site
        released an AUROC.
    """
    candidates = [
        Candidate(alpha=alpha, auroc=mean_within_site_auroc(mixture_aurocs(figures, i), counts))
        for i, alpha in enumerate(alphas)
    ]
    candidates_with_auroc = [c for c in candidates if c.auroc is not None]
    if not candidates_with_auroc:
        why = "no site could release a validation AUROC"
        return Ensemble(alpha=1.0, candidates=candidates, why=why)
    chosen = max(candidates_with_auroc, key=lambda c: (c.auroc, c.alpha))
    return Ensemble(alpha=chosen.alpha, candidates=candidates)


def mixture_aurocs(
    figures: Mapping[str, Sequence[MonitoringFigures]], index: int
) -> dict[str, dict[str, float | None]]:
    """Site -> outcome -> AUROC of the mixture at an index of the list of alphas."""
    return {
        site: {outcome: m.auroc for outcome, m in of_site[index].items()}
        for site, of_site in figures.items()
    }
