"""The reasons for a refusal of a site: a word of a fixed list, and nothing else, is sent."""

from typing import Literal

Reason = Literal[
    "weights",
    "cohort",
    "outcome",
    "broken files",
    "device",
    "storage",
    "experiment",
    "version",
    "generator",
    "trained on test patients",
    "diverged",
    "reference",
    "policy",
    "approval",
    "hours",
    "limit",
    "asked",
    "implausible",
    "request",
    "internal",
]
"""Why a site did not do what a request asked for."""

REASONS: dict[Reason, str] = {
    "weights": "the base weights are missing at the site or are not the pinned file; "
    "the site's log names the file and where to put it",
    "cohort": "the site's cohort cannot be used; `fedrad-site check` at the site says why",
    "outcome": "the site's cohort lacks an outcome of the experiment",
    "broken files": "more of the site's files are broken than it tolerates; "
    "`fedrad-site check` at the site lists them",
    "device": "the site's settings ask for a GPU that PyTorch does not see there",
    "storage": "the site cannot keep its decoded images (disk full, not writable, or its limit too "
    "small); the site's log says where",
    "experiment": "the site's fedrad does not know a setting of this experiment: "
    "use the same version",
    "version": "the site runs another version of fedrad than the coordinator (both need the same "
    "first two numbers), or another release than the one that the experiment requires "
    "(federation.release)",
    "generator": "the site's policy lets no weights of a generator leave (share_generator in its "
    "site.toml); it is for the site to decide",
    "trained on test patients": "the base weights were trained at this site in an earlier "
    "experiment on patients who are held out in this one, or it has lost the record of whom: "
    "set that experiment's seed, outcomes and shares, pin other base weights, or go on without "
    "this site",
    "diverged": "the site's training came to values that are not finite; lower "
    "recipe.learning_rates, or ask the site to look at its images",
    "reference": "the site does not hold the model that this one was sent as a difference to; it "
    "is sent in full",
    "policy": "the site's policy does not admit this experiment or this coordinator",
    "approval": "the site has not approved this experiment yet; `fedrad-site approve` there shows "
    "and approves it",
    "hours": "the site works at other hours of the day only; it is asked again",
    "limit": "the site has done what its policy allows in a day; it is asked again",
    "asked": "the site has answered this question already, about another model, or the approved "
    "experiment does not have it; its question book says which. Another experiment needs another "
    "name and the site's agreement",
    "implausible": "the site takes the model for no mean of the sites' updates: it is further from "
    "the last one than federation.clip allows, or gives nearly all patients one of two scores; the "
    "site's log says which",
    "request": "the site could not make sense of the request, or its hash was wrong",
    "internal": "an unexpected error at the site; the site's log has it",
}
"""Reason -> sentence that the coordinator shows."""
