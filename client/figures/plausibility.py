"""Whether scores on validation patients can be those of a trained model."""

import numpy as np

from fedrad.stats.exact import Logits, Patients

FEWEST_VALUES = 3
FEWEST_PATIENTS = 6
"""Among fewer patients one is far from the others by chance."""
GAP = 30.0
"""Patients are isolated if they are further from the others than this many times the distance
between the lowest and the highest of the others."""


def why_implausible(
    logits: Logits, minimum_units: int, patients: Patients | None = None
) -> str | None:
    """Why logits on validation units look made to find out about single patients.

    A model that gives all patients one score and one patient another makes each figure a question
    about that patient. Refused are: values that are not finite; fewer than three different values;
    fewer than `minimum_units` patients far from all the others (`GAP`), which are at least two
    thirds.

    It does not see: scores that are spread evenly, in an order of the sender's choice, or whose
    distances grow by less than `GAP`, patient by patient; a model that singles out patients who are
    in no cohort of this site, or that stay apart only together with others; what is trained into
    the weights. Noise on the figures is the protection against these; this check makes the
    cheapest questions impossible and visible.

    Parameters
    ----------
    logits
        (n,) raw logits of the received model for one outcome.
    minimum_units
        Fewest patients that may be apart.
    patients
        (n,) number of the patient of each unit; then the median logit of each patient counts.

    Returns
    -------
    str or None
        The reason, for the site's log; it holds no score. None for plausible logits. Of fewer than
        three patients, and for distances of fewer than six, nothing can be said: they are too few.
    """
    if not np.isfinite(logits).all():
        return "some scores are not finite"
    if patients is not None:
        logits = np.array([np.median(logits[patients == p]) for p in np.unique(patients)])
    n = len(logits)
    if n < FEWEST_VALUES:
        return None
    if (different := len(np.unique(logits))) < FEWEST_VALUES:
        return f"the {n} patients have {different} different score{'s' * (different > 1)}"
    ordered, most = np.sort(logits), n // 3 if n >= FEWEST_PATIENTS else 0
    for apart in range(1, min(minimum_units, most + 1)):
        together = n - apart
        low, high = ordered[: apart + 1], ordered[together - 1 :]
        below = np.append(np.inf, np.diff(ordered)[:apart])
        above = np.append(np.diff(ordered)[together - 1 :], np.inf)
        if (np.minimum(below, above) > GAP * (high - low)).any():
            return f"{apart} of {n} patients have scores far from those of all others"
    return None
