"""The weights of the sites in the mean of a round: as claimed, within what limits a lying site.

A site says in each round on how many patients it trained. It weighs no more than what it declared
before the first round, and no more than `federation.largest_share` of the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Limit = Literal["declared", "share"]
"""What limits a weight: the count declared at readiness, or `federation.largest_share`."""


@dataclass(frozen=True)
class SiteWeight:
    """A site's weight in the mean, its share of all weights, and what limited it, if anything."""

    weight: float
    share: float
    limited_by: Limit | None = None


def limited_weights(
    claims: Mapping[str, float], declared: Mapping[str, int | None], largest_share: float
) -> dict[str, SiteWeight]:
    """The weights that count.

    A site whose update is refused for a wrong number would be lost for the round; a cohort may also
    have grown since. So a claim beyond the declared count is not refused but limited to it.

    A site that withholds its counts has none to be held against. It weighs at most as much as the
    heaviest other site that declared one; if no other did, as the heaviest other claim. So no site
    gains by withholding.

    If no limit is reached, the weights are the claims, to the bit.

    Parameters
    ----------
    claims
        Site -> weight that follows from its answer, above 0.
    declared
        Site -> most that it may weigh by what it declared; None if it withheld its counts.
    largest_share
        Largest share of one site, in (0, 1]. With K sites it is at least 1/K.

    Returns
    -------
    dict[str, SiteWeight]
        Site -> its weight. The shares sum to 1.
    """
    weights = dict(claims)
    for site, claim in claims.items():
        limit = declared.get(site)
        most = _of_others(site, claims, declared) if limit is None else float(limit)
        weights[site] = min(claim, most)
    shares = _shares(weights, max(largest_share, 1 / max(1, len(weights))))
    plain = {site: weight / sum(weights.values()) for site, weight in weights.items()}
    result = {}
    for site, weight in weights.items():
        limited_by: Limit | None = None
        if weight < claims[site]:
            limited_by = "declared"
        if shares[site] < plain[site]:
            limited_by = "share"
        result[site] = SiteWeight(
            weight if shares == plain else shares[site], shares[site], limited_by
        )
    return result


def _of_others(site: str, claims: Mapping[str, float], declared: Mapping[str, int | None]) -> float:
    """The most that a site without a declared count may weigh, by the other sites."""
    others = [other for other in claims if other != site]
    limits = {other: declared.get(other) for other in others}
    known = [min(claims[o], limit) for o, limit in limits.items() if limit is not None]
    return max(known or [claims[other] for other in others] or [claims[site]])


def _shares(weights: Mapping[str, float], cap: float) -> dict[str, float]:
    """Shares of the whole of at most `cap`. What is taken from those above goes to the others, in
    proportion to their weights, until none is above."""
    full: set[str] = set()
    while True:
        left = 1 - cap * len(full)
        total = sum(weight for site, weight in weights.items() if site not in full)
        shares = {s: cap if s in full else left * w / total for s, w in weights.items()}
        above = {site for site, share in shares.items() if share > cap and site not in full}
        if not above or len(full | above) == len(weights):
            return {site: min(share, cap) for site, share in shares.items()}
        full |= above
