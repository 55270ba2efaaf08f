"""The questions that an experiment may ask a site. What is not in this list is not answered."""

from collections.abc import Sequence

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import ModelName
from fedrad.exchange.messages import (
    BaselineRequest,
    ReadyRequest,
    ReleaseRequest,
    Request,
    RoundRequest,
    ScoreRequest,
    ValidationRequest,
)
from fedrad.exchange.model_names import LOCAL, local_of

READINESS, BASELINE, VALIDATION = "readiness", "baseline", "validation"


def round_question(number: int) -> str:
    """The question of a round; `number` counts from 0, as in the request."""
    return f"round {number + 1}"


def score_question(part: str, model: ModelName) -> str:
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


def scored_models(experiment: Experiment) -> list[ModelName]:
    """The models that every site scores, as requests name them."""
    local = [LOCAL] if experiment.evaluation.local_baseline else []
    return ["base", *local, "global", "best"]


def visiting_models(experiment: Experiment, site: str) -> list[ModelName]:
    """Local-only models of other sites that the experiment has scored at a site."""
    if not experiment.evaluation.travel:
        return []
    return [local_of(other) for other in experiment.federation.sites if other != site]


def question_of(request: Request, experiment: Experiment, site: str) -> str:
    """The question that a request asks.

    Parameters
    ----------
    request
        The request of a coordinator.
    experiment
        The experiment, as it was approved.
    site
        Name of the site that is asked.

    Raises
    ------
    SiteProblem
        "asked": the experiment does not have this question, or has it otherwise.
    """
    question = _name_of(request)
    if question not in questions_of(experiment, site):
        raise _other(question, "the experiment does not have this question")
    evaluation = experiment.evaluation
    if isinstance(request, ValidationRequest):
        if request.alphas != sorted({*evaluation.ensemble, 1.0}):
            raise _other(question, "it names other mixtures than evaluation.ensemble")
    elif isinstance(request, BaselineRequest):
        if request.travel != evaluation.travel:
            raise _other(question, f"travel = {request.travel}, the experiment says otherwise")
    elif isinstance(request, ReleaseRequest):
        _check_release(question, request, experiment, site)
    return question


def _name_of(request: Request) -> str:
    if isinstance(request, ReadyRequest):
        return READINESS
    if isinstance(request, RoundRequest):
        return round_question(request.round)
    if isinstance(request, BaselineRequest):
        return BASELINE
    if isinstance(request, ValidationRequest):
        return VALIDATION
    if isinstance(request, ScoreRequest):
        return score_question(request.part, request.model)
    return release_question(request.part)


def _check_release(
    question: str, request: ReleaseRequest, experiment: Experiment, site: str
) -> None:
    """Each model once, of those that are scored; thresholds for these models and outcomes only."""
    allowed: Sequence[ModelName] = scored_models(experiment)
    if request.part == "test":
        allowed = [*allowed, *visiting_models(experiment, site), local_of(site)]
    models = request.models
    if len(set(models)) != len(models) or not set(models) <= set(allowed):
        raise _other(question, "it names models that are not scored, or one of them twice")
    outcomes = {outcome for of_model in request.operating.values() for outcome in of_model}
    if not outcomes <= set(experiment.outcomes) or not set(request.operating) <= set(allowed):
        raise _other(question, "it gives thresholds of other models or outcomes")
    if request.operating and request.part == "validation":
        raise _other(question, "it gives thresholds before they can be chosen")


def _other(question: str, why: str) -> SiteProblem:
    return SiteProblem("asked", f"{question!r} is not answered: {why}")
