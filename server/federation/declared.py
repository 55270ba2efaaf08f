"""What a site declared at readiness, against which its later answers are held."""

from collections.abc import Sequence

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.messages import Counts, MonitoringFigures, Readiness, RoundReply
from fedrad.system.release import same_release


def training_limit(readiness: Readiness, outcomes: Sequence[str]) -> int | None:
    """Largest weight of a site in the mean: the training units that it declared.

    With several outcomes a unit can be known for one and unknown for another, so the sum over the
    outcomes is the limit. It is at least 1, so that a mean exists. With `unit = "image"` the units
    are images, of which a site has at least as many as patients.

    Returns
    -------
    int or None
        None if the site withholds a count (a small class, or `policy.epsilon`).
    """
    of_train = readiness.units.get("train", {})
    total = 0
    for outcome in outcomes:
        counts = of_train.get(outcome)
        if counts is None or counts.positives is None or counts.negatives is None:
            return None
        total += counts.positives + counts.negatives
    return max(1, total)


def contradiction_of_readiness(readiness: Readiness, experiment: Experiment) -> str:
    """Why a site's readiness is not of this experiment; empty if it is."""
    required = experiment.federation.release
    if required is not None and not same_release(required, readiness.release or ""):
        return f"runs release {readiness.release or 'unknown'}, and the experiment requires another"
    if any(set(of_part) - set(experiment.outcomes) for of_part in readiness.units.values()):
        return "gives counts of other outcomes than the experiment's"
    if readiness.site in experiment.evaluation.held_out and readiness.trains:
        return "is held out by the experiment, and says that it trains"
    return ""


def contradiction_of_round(reply: RoundReply, readiness: Readiness, experiment: Experiment) -> str:
    """Why a site's answer in a round cannot be; empty if it can."""
    if reply.manifest is not None and not readiness.trains:
        return "it trained, and had declared that it only evaluates"
    if 0 < reply.images < reply.patients:
        return "it trained on more patients than images"
    return contradiction_of_monitoring(reply.monitoring, readiness, experiment)


def contradiction_of_monitoring(
    figures: MonitoringFigures, readiness: Readiness, experiment: Experiment
) -> str:
    """Why figures on validation patients cannot be; empty if they can."""
    if set(figures) - set(experiment.outcomes):
        return "figures of other outcomes than the experiment's"
    declared = readiness.units.get("validation", {})
    for outcome, monitoring in figures.items():
        if monitoring.auroc is not None and _lacks_a_class(declared.get(outcome)):
            return (
                f"an AUROC for {outcome}, and it had declared no validation patients of one class"
            )
    return ""


def _lacks_a_class(counts: Counts | None) -> bool:
    return counts is not None and 0 in (counts.positives, counts.negatives)
