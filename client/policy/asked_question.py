"""Which question of an experiment a request asks, and whether it asks it as it was approved."""

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.messages import (
    BaselineRequest,
    ReadyRequest,
    ReleaseRequest,
    Request,
    RoundRequest,
    ScoreRequest,
    ValidationRequest,
)
from fedrad.exchange.model_names import local_of

from .questions import (
    BASELINE,
    READINESS,
    VALIDATION,
    questions_of,
    release_question,
    round_question,
    score_question,
    scored_models,
    visiting_models,
)


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
    allowed = scored_models(experiment)
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
