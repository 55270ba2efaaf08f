"""The budget of patients in plain words, for the person who approves an experiment."""

from collections import Counter

from fedrad.client.policy.planned_epsilon import planned_epsilon
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment

from .patient_uses import PatientUses
from .trained_patients import TrainedPatients


def budget_sentence(site: Site, experiment: Experiment) -> list[str]:
    """What the patients of a site have been in, and how an experiment adds to it, for the person
    who approves it. Only the records are read, neither the cohort table nor an image.

    Raises SiteProblem("cohort") if a record cannot be read.
    """
    uses = PatientUses(site.state / "uses", TrainedPatients(site.state / "trained"))
    spent, policy = uses.spent(but=experiment.family), site.settings.policy
    budget, planned = policy.budget, planned_epsilon(experiment, policy)
    if not spent.patients:
        return ["no patient here has trained or been counted in another experiment yet"]
    most = max(spent.experiments.values(), default=0)
    released = max(spent.releases.values(), default=0)
    sentences = [
        f"in other experiments, one patient has trained in at most {most}"
        f"{_of(budget.experiments)}, and is counted in the figures of at most {released}"
        f"{_of(budget.releases)}"
    ]
    if policy.epsilon:
        total, more = max(spent.epsilon.values(), default=0.0), max(planned.values(), default=0.0)
        sentences.append(
            f"ε of one patient in other experiments: at most {total:g}{_of(budget.epsilon)}; this "
            f"one adds at most {more:g}"
        )
    over = Counter(
        why
        for key in spent.patients
        if (
            why := spent.why_over(
                key, budget, trains=True, counted=True, planned=max(planned.values(), default=0.0)
            )
        )
    )
    if over:
        which = ", ".join(f"{number} of {limit}" for limit, number in sorted(over.items()))
        sentences.append(
            f"up to {over.total()} of {len(spent.patients)} patients of other experiments would be "
            f"left out, because they have reached a limit (policy.budget: {which})"
        )
    return sentences


def _of(limit: float | None) -> str:
    return "" if limit is None else f" of {limit:g}"
