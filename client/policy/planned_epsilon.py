"""How much ε an experiment can cost a patient, before it is approved."""

from fedrad.client.settings import Policy
from fedrad.exchange.experiment import Experiment


def planned_epsilon(experiment: Experiment, policy: Policy) -> dict[str, float]:
    """Largest ε that an experiment can cost a patient of each part of the split.

    A histogram with noise is released for each outcome and for each of these models: base, best,
    global, and the site's own local-only model. Those of other sites have none. The monitoring of
    all rounds together costs `policy.epsilon` if it has noise that is accounted.

    Returns
    -------
    dict
        Part -> ε; empty if the site's policy has none.
    """
    if not policy.epsilon:
        return {}
    models = 3 + experiment.evaluation.local_baseline if policy.share_histograms else 0
    histograms = models * len(experiment.outcomes) * policy.epsilon
    released = histograms if experiment.task.tests_patients else 0.0
    monitoring = policy.epsilon if policy.monitoring == "noisy" else 0.0
    return {"validation": released + monitoring, "test": released}
