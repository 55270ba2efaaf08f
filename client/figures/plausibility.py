"""Whether scores on validation patients can be those of a trained model."""

import numpy as np

from fedrad.stats.exact import Logits, Patients

FEWEST_VALUES = 3


def why_implausible(
    logits: Logits, minimum_units: int, patients: Patients | None = None
) -> str | None:
    """Why logits on validation units look made to find out about single patients.

    A model that gives all patients one of two scores, and a few patients others, makes each figure
    a question about these few. Refused are: values that are not finite; fewer than three different
    values; fewer than `minimum_units` patients beside those who share the two most frequent values,
    if those are more than half.

    A refusal is an answer too. So the rule refuses such a model whether or not the few are among
    the patients of this site: without them there are only the two values. For the same reason it
    does not look at distances: one person far from all others would be refused exactly if the
    person is here, whereas the noise on the figure hides it.

    It does not see: scores that are all different, in an order of the sender's choice, against
    which the noise on the figures is the protection; what is trained into the weights.

    Parameters
    ----------
    logits
        (n,) raw logits of the received model for one outcome.
    minimum_units
        Fewest patients who may have other values than the two most frequent ones.
    patients
        (n,) number of the patient of each unit; then the median logit of each patient counts.

    Returns
    -------
    str or None
        The reason, for the site's log; it holds no score. None for plausible logits. Of fewer than
        three patients nothing can be said: they are too few.
    """
    if not np.isfinite(logits).all():
        return "some scores are not finite"
    if patients is not None:
        logits = np.array([np.median(logits[patients == p]) for p in np.unique(patients)])
    n = len(logits)
    if n < FEWEST_VALUES:
        return None
    numbers = np.sort(np.unique(logits, return_counts=True)[1])[::-1]
    if (different := len(numbers)) < FEWEST_VALUES:
        return f"the {n} patients have {different} different score{'s' * (different > 1)}"
    shared = int(numbers[:2].sum())
    if numbers[0] > 1 and n - shared < minimum_units and shared > n / 2:
        return f"all but {n - shared} of {n} patients share two scores"
    return None
