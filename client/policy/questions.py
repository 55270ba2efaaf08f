"""The questions that an experiment may ask a site. What is not in this list is not answered."""

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.model_names import LOCAL, local_of

READINESS, BASELINE, VALIDATION = "readiness", "baseline", "validation"


def round_question(number: int) -> str:
    """The question of a round; `number` counts from 0, as in the request."""
    return f"round {number + 1}"


def score_question(part: str, model: str) -> str:
    """The question that has a model scored on a part of the patients."""
    return f"score {part} {model}"


def release_question(part: str) -> str:
    """The question for the figures about a part of the patients."""
    return f"release {part}"


def questions_of(experiment: Experiment, site: str) -> list[str]:
    """All questions that one training of an experiment may ask a site, in their order.

    Each is answered once, about one model. A cross-validation of F folds and R repeats has F · R
    trainings, of which only the last releases figures.

    Parameters
    ----------
    experiment
        The experiment.
    site
        Name of the site that is asked.
    """
    evaluation, rounds = experiment.evaluation, experiment.schedule.rounds
    questions = [READINESS, *map(round_question, range(rounds))]
    if not experiment.task.tests_patients:
        return questions
    if evaluation.local_baseline:
        questions.append(BASELINE)
    if evaluation.ensemble:
        questions.append(VALIDATION)
    shared = scored_models(experiment)
    questions += [score_question("validation", model) for model in shared]
    if not evaluation.folds:
        questions.append(release_question("validation"))
    questions += [
        score_question("test", model) for model in [*shared, *visiting_models(experiment, site)]
    ]
    if experiment.is_last_fold:
        questions.append(release_question("test"))
    return questions


def scored_models(experiment: Experiment) -> list[str]:
    """The models that every site scores, as requests name them."""
    local = [LOCAL] if experiment.evaluation.local_baseline else []
    return ["base", *local, "global", "best"]


def visiting_models(experiment: Experiment, site: str) -> list[str]:
    """Local-only models of other sites that the experiment has scored at a site."""
    if not experiment.evaluation.travel:
        return []
    return [local_of(other) for other in experiment.federation.sites if other != site]
