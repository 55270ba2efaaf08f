"""Describes an experiment in plain words for a data-protection officer, before it is approved.

The description uses only the validated settings, never the text as received. Comments in the text
and control characters in names are therefore not part of the description that is approved.
"""

from collections.abc import Iterator
from itertools import groupby

from fedrad.client.settings import Policy
from fedrad.exchange.experiment import Experiment, group_names
from fedrad.exchange.required_release import release_fault
from fedrad.exchange.validation_errors import shown
from fedrad.system.release import release

from .planned_epsilon import planned_epsilon
from .questions import questions_of, visiting_models

STAGE_DESCRIPTIONS = {
    "probe": "the last layer (the head)",
    "layer4": "the head and the last of four blocks",
    "layer3": "the head and the last two of four blocks",
    "layer2": "the head and the last three of four blocks",
    "all": "the whole network",
}
Section = tuple[str, list[str]]


def describe_experiment(experiment: Experiment, policy: Policy) -> list[Section]:
    """Describe an experiment: headings with their sentences.

    They say what is trained, on which patients and how often, what leaves the hospital and when,
    and which parts this site's policy declines.
    """
    return [
        ("What is trained", list(_training(experiment))),
        ("On which patients", list(_patients(experiment))),
        ("How much in all", list(_in_all(experiment, policy))),
        ("What would leave this hospital", list(_messages_sent(experiment, policy))),
        (
            "What does not leave",
            [
                "no image, no score of a single patient, no identifier, no date, no file name; the "
                "number of files set aside leaves, but not which files they are, nor why",
            ],
        ),
        (
            "What this site's policy does not give",
            list(declined_parts(experiment, policy))
            or [
                "nothing: all that is asked for is within it",
            ],
        ),
    ]


def declined_parts(experiment: Experiment, policy: Policy) -> Iterator[str]:
    """The parts of an experiment that the site's policy declines."""
    evaluation = experiment.evaluation
    task = experiment.task
    if task.weights_hold_images and not policy.share_generator:
        yield "weights of a generator: declined (share_generator); this site does not take part"
    if policy.monitoring == "none":
        yield "figures of each round on the validation patients: declined (monitoring)"
    elif policy.monitoring == "rounded" and policy.epsilon:
        yield f"the {task.monitored.name} on the validation patients: declined (epsilon)"
    if policy.epsilon or policy.monitoring == "none":
        yield f"losses of training: declined ({'epsilon' if policy.epsilon else 'monitoring'})"
    if not task.tests_patients:
        return
    if evaluation.travel and not policy.share_local_model:
        yield "your local-only model for scoring elsewhere: declined (share_local_model)"
    if evaluation.travel and not policy.test_other_models:
        yield "scoring of other sites' models here: declined (test_other_models)"
    if not policy.share_histograms:
        yield "histograms of scores: declined (share_histograms)"
    if evaluation.subgroups and not policy.share_subgroups:
        yield "figures of groups of patients: declined (share_subgroups)"
    if evaluation.minimum_units < policy.minimum_units:
        yield (
            f"figures about classes of {evaluation.minimum_units} to {policy.minimum_units - 1} "
            f"patients: declined (minimum_units = {policy.minimum_units})"
        )
    if policy.epsilon:
        yield (
            "exact figures about scores: declined (epsilon); histograms leave with noise of "
            f"ε = {policy.epsilon:g} each"
        )
        if experiment.unit == "image":
            yield "all figures: the noise does not protect patients with several images (epsilon)"


def _training(experiment: Experiment) -> Iterator[str]:
    model = experiment.model
    outcomes = ", ".join(map(shown, experiment.outcomes))
    yield f"{experiment.task.describe(model)}: {outcomes}"
    pinned = f", SHA-256 {model.sha256[:16]}…" if model.sha256 else ", not pinned by a hash"
    start = "random weights" if model.weights == "random" else shown(model.weights) + pinned
    yield f"it starts from {start}; only code that this site installed runs"
    yield _code(experiment)
    yield (
        f"with the sites {', '.join(experiment.federation.sites)}, and others that the coordinator "
        "admits"
        if experiment.federation.sites
        else "with whichever sites the coordinator admits: the experiment names none"
    )
    if simulated := experiment.recipe.progression.probability:
        yield (
            f"with a probability of {simulated:g} it sees, in place of an image with the outcome, "
            f"one that {shown(experiment.recipe.progression.generator)} makes of it here; these "
            "pictures stay"
        )


def _code(experiment: Experiment) -> str:
    required = experiment.federation.release
    if required is None:
        return f"any release of fedrad may run it; installed here is {release()}"
    if release_fault(required) is None:
        return f"it requires a release of fedrad, and that is the one installed here: {release()}"
    return (
        f"it requires release {required} of fedrad, and installed here is {release()}: this site "
        "does not take part until the required one is installed"
    )


def _patients(experiment: Experiment) -> Iterator[str]:
    evaluation = experiment.evaluation
    if evaluation.held_out:
        yield (
            "at "
            + ", ".join(evaluation.held_out)
            + " no patient trains: all patients there are tested"
        )
    if evaluation.folds:
        yield (
            f"every patient of the cohort table is tested in one of {evaluation.folds} folds and "
            f"trains in the others; {evaluation.repeats} repeats; this approval is for all of them"
        )
    else:
        test = (
            f"about {evaluation.test:.0%}"
            if evaluation.test_after is None
            else (f"those with an image after {evaluation.test_after}")
        )
        train = (
            ""
            if evaluation.test_after
            else (f"about {1 - evaluation.test - evaluation.validation:.0%} of ")
        )
        yield (
            f"{train}the patients of the cohort table train, about {evaluation.validation:.0%} are "
            f"for choices (validation), {test} are {experiment.task.test_patients_are}"
        )
    chosen = {
        "all": "all images of a patient",
        "earliest": "each patient's earliest image",
        "latest": "each patient's latest image",
    }
    yield f"{chosen[evaluation.index_image]}; a {experiment.unit} is what is counted"


def _in_all(experiment: Experiment, policy: Policy) -> Iterator[str]:
    evaluation, federation = experiment.evaluation, experiment.federation
    rounds, passes = federation.rounds, federation.rounds * experiment.recipe.local_epochs
    alone = evaluation.local_baseline and experiment.task.tests_patients
    each = f"{passes} passes over each training patient"
    if experiment.recipe.local_epochs > 1:
        each += f" ({rounds} rounds of {experiment.recipe.local_epochs})"
    trainings = evaluation.folds * evaluation.repeats or 1
    if alone:
        each += ", and as many for the local-only model"
    if evaluation.folds:
        trains = (evaluation.folds - 1) * evaluation.repeats
        each += (
            f", in each of {trainings} trainings; a patient trains in at most {trains} of them: "
            f"{trains * passes * (1 + alone)} passes"
        )
    yield each
    yield "what is asked of this site, each once: " + _questions(experiment, trainings)
    groups = ", ".join(map(shown, evaluation.subgroups)) or "none"
    yield (
        "columns of the cohort table that are used as outcomes: "
        f"{', '.join(map(shown, experiment.outcomes))}; for groups of patients: {groups}"
    )
    yield (
        f"seed of the division and of all draws: {experiment.seed}. Experiments with another seed, "
        "outcomes or shares divide the patients anew: one who was tested before may train"
    )
    yield (
        "against hospitals that send wrong weights: what a round may change has a norm of at most "
        f"{federation.clip:g}, and one hospital counts at most {federation.largest_share:.0%}"
    )
    if policy.epsilon:
        most = max(planned_epsilon(experiment, policy).values())
        yield f"privacy loss of one patient, at most: ε = {most:g}"
    else:
        yield (
            "no privacy loss ε is stated: epsilon is 0, so figures leave rounded, but without "
            "the noise that would bound it"
        )


def _questions(experiment: Experiment, trainings: int) -> str:
    evaluation = experiment.evaluation
    parts = ["readiness", f"{experiment.federation.rounds} rounds about one model each"]
    if experiment.task.tests_patients:
        if evaluation.local_baseline:
            parts.append("a local-only model")
        if evaluation.ensemble:
            parts.append("figures of mixtures with the base weights")
        parts.append("scores of each model on validation and on test patients, which stay")
    asked = ", ".join(parts)
    if trainings > 1:
        asked += f", in each of {trainings} trainings"
    if experiment.task.tests_patients:
        asked += (
            "; one release over all trainings"
            if evaluation.folds
            else "; one release of figures on validation and one on test patients"
        )
    number = len(questions_of(experiment, ""))
    return f"{asked}: {number} questions a training; all others are refused"


def _messages_sent(experiment: Experiment, policy: Policy) -> Iterator[str]:
    evaluation, schedule = experiment.evaluation, experiment.schedule
    minimum = max(evaluation.minimum_units, policy.minimum_units)
    yield "before the first round: this site's name, versions, device, " + (
        "but not how many patients it has of each class and part (epsilon)"
        if policy.epsilon
        else "and how many patients it has of each class and part; nothing about a class of fewer "
        f"than {minimum}"
    )
    declined = "; without what the policy does not give, see below"
    yield f"in each of the {schedule.rounds} rounds: {experiment.task.sent_each_round}" + (
        declined if policy.epsilon or policy.monitoring == "none" else ""
    )
    if experiment.task.weights_hold_images:
        yield (
            "such weights can give training images back, above all those of few patients; how near "
            "they come is written to this site's log before each message"
        )
    if not experiment.task.tests_patients:
        return
    start, parts = 1, []
    for stage, rounds in groupby(schedule.stage(number) for number in range(schedule.rounds)):
        end = start + len(list(rounds)) - 1
        when = f"round {start}" if start == end else f"rounds {start} to {end}"
        parts.append(f"{when} of {STAGE_DESCRIPTIONS[stage]}")
        start = end + 1
    yield f"these weights are: {'; '.join(parts)}"
    if evaluation.local_baseline:
        yield "after the last round: that a local-only model was trained here" + (
            "" if policy.epsilon or policy.monitoring == "none" else ", and its loss"
        )
    if evaluation.ensemble and policy.monitoring != "none":
        yield "after the last round: AUROCs of mixtures with the base, on the validation patients"
    if policy.monitoring == "rounded" and not policy.epsilon:
        yield (
            "the AUROC of each round has noise of one standard error; a coordinator that spends "
            "the rounds on models made to find out about patients, whose images it must have, "
            "could still name the outcome of some patients of a site with fewer than about 300 "
            'validation patients: monitoring = "none" prevents that (docs/privacy.md)'
        )
    if evaluation.travel and policy.share_local_model:
        yield "after the last round: this site's local-only model, to be scored at other sites"
    if evaluation.travel and policy.test_other_models:
        number = len(visiting_models(experiment, ""))
        yield (
            "an AUROC on the test patients, without noise, of each local-only model of up to "
            f"{number} sites (federation.sites); a coordinator that makes such models up, and has "
            "the patients' images, could compute outcomes from them: see that these sites exist"
        )
    figures = (
        "AUROC with its variance, average precision, calibration, and differences between models"
    )
    yield (
        "at the end, once for validation and once for test patients, per model and outcome: "
        + ("only what noisy histograms tell" if policy.epsilon else figures)
    )
    if policy.share_histograms:
        yield (
            "with them a histogram of the scores, no bin of fewer than "
            f"{policy.minimum_bin} patients, from which thresholds and pooled figures are computed"
        )
    if policy.share_subgroups:
        for column, groups in evaluation.subgroups.items():
            named = ", ".join(shown(name) for name in group_names(groups))
            yield (
                f"AUROC and counts by {shown(column)} ({named}), for groups of at least {minimum} "
                "patients of each class"
            )
