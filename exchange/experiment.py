"""`experiment.toml`: the settings of one federated training, and their validation."""

import json
import re
import tomllib
from datetime import date
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetPydanticSchema,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from fedrad.models.progression.settings import GeneratorSettings
from fedrad.models.schedule import Schedule
from fedrad.models.settings import Fraction, ModelSettings, RecipeSettings, Settings, Text
from fedrad.models.tasks import CLASSIFICATION, TASKS, Task, TaskName
from fedrad.system.errors import UserError
from fedrad.system.files import read_regular_text

from .bounds import MOST_ROUNDS
from .names import Name, Outcome, folded
from .required_release import ReleaseName
from .strategies import (
    SETTINGS_READ,
    ServerSettings,
    StrategyName,
    check_strategy,
    unread_settings,
)
from .validation_errors import explain_validation_error, shown

Groups = Annotated[
    tuple[Annotated[float, Field(strict=True)], ...]
    | tuple[Annotated[Text, Field(strict=True)], ...],
    Field(min_length=1, max_length=20),
]
"""Groups of a column: its values (`["F", "M"]`), or the limits between ranges of numbers."""

_BY_NAME = GetPydanticSchema(
    lambda _, handler: core_schema.no_info_after_validator_function(
        TASKS.__getitem__,
        handler(TaskName),
        serialization=core_schema.plain_serializer_function_ser_schema(lambda task: task.name),
    )
)
"""In the file a task is written as its name."""


Encoding = Literal["float32", "float16", "bfloat16", "int8"]
"""How the values of an update are encoded when they are sent."""


class ExperimentError(UserError):
    """An experiment file cannot be used; the text names key, value and what is allowed."""


class FederationSettings(Settings):
    """`[federation]`: rounds, sites that must take part, and how their updates are combined."""

    rounds: int = Field(default=30, ge=1, le=MOST_ROUNDS)
    sites: tuple[Name, ...] = ()
    """Sites to wait for before the first round. If empty, the first round starts as soon as there
    is a quorum."""
    quorum: int = Field(default=2, ge=1)
    """Smallest number of sites whose updates complete a round."""
    deadline_minutes: float = Field(default=60.0, gt=0.0)
    """A round closes after this time, without the sites that have not answered."""
    release: ReleaseName | None = None
    """Release of fedrad that coordinator and sites must have installed, as `fedrad --version`
    prints it; of the hash, at least the first 12 characters."""
    patience_hours: float = Field(default=72.0, ge=0.0)
    """How long to wait for a quorum before the experiment stops as failed; it can be resumed."""
    encoding: Encoding = "float32"
    """How weights are sent in both directions. All encodings but float32 send differences to the
    last global model."""
    strategy: StrategyName = "fedavg"
    server: ServerSettings = ServerSettings()
    weighting: Literal["patients", "images", "equal"] = "patients"
    """What a site's weight in the average is. The robust strategies (median, trimmed-mean, krum)
    ignore it and give all sites the same weight."""
    outlier_factor: float = Field(default=20.0, gt=1.0)
    """An update is rejected if its norm is this many times the (lower) median norm of the round."""
    clip: float = Field(default=100.0, gt=0.0)
    """Largest Euclidean norm of an update, running statistics not counted. A longer update, and a
    longer step of the global model, is scaled down to it; a site refuses a global model that is
    further from the last one (McMahan et al. 2018, section 3)."""
    largest_share: float = Field(default=0.75, gt=0.0, le=1.0)
    """Largest share of one site in the weighted mean. A site that would have more has this much."""
    train_one_class: bool = False
    """Whether a site with training units of one class only trains; if not, it only evaluates."""

    @model_validator(mode="after")
    def _strategy_has_its_sites(self) -> "FederationSettings":
        check_strategy(self.strategy, self.server, self.quorum)
        return self


class EvaluationSettings(Settings):
    """`[evaluation]`: the plan of the evaluation, fixed and hashed before the first round."""

    test: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of each site's patients reserved for testing; they are used once, at the end."""
    validation: float = Field(default=0.15, ge=0.0, lt=1.0)
    """Share of each site's patients for monitoring and for the threshold."""
    test_after: date | None = None
    """Patients with an image after this date are the test patients, instead of a share."""
    index_image: Literal["earliest", "latest", "all"] = "earliest"
    """Which of a patient's images represents the patient; `all` goes with `unit = "image"`."""
    minimum_units: int = Field(default=10, ge=1)
    """Smallest number of units of a class for which figures are requested; a site's policy may
    require more."""
    ensemble: tuple[Fraction, ...] = Field(default=(), max_length=11)
    """Weight-space ensemble with the base model (WiSE-FT): shares of the trained backbone to try on
    validation patients. The trained model itself is always tried too. If empty, no ensemble."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    local_baseline: bool = True
    """Whether each site also trains a local-only model, with the same recipe and budget."""
    travel: bool = False
    """Whether local-only models are also scored at other sites. Both sites must agree to it."""
    folds: int = Field(default=0, ge=0, le=20)
    """Number of folds of a cross-validation; 0: no cross-validation but one split."""
    repeats: int = Field(default=1, ge=1, le=20)
    """How often the cross-validation is repeated with a new division into folds."""
    fold_number: int = Field(default=0, ge=0)
    """Number of this training among the folds · repeats trainings, from 0. `fedrad cross-validate`
    runs all of them."""
    held_out: tuple[Name, ...] = ()
    """Sites that take no part in training or in the choice of models and thresholds: all their
    patients are test patients."""
    subgroups: dict[Outcome, Groups] = Field(default_factory=dict)
    """Column of the cohort table -> its groups, in which the global model is evaluated."""

    @field_validator("subgroups")
    @classmethod
    def _groups_are_apart(cls, value: dict[str, Groups]) -> dict[str, Groups]:
        for column, groups in value.items():
            numbers = all(isinstance(group, float) for group in groups)
            if len(set(groups)) != len(groups) or (numbers and list(groups) != sorted(groups)):
                raise ValueError(f"{column}: each group once, and cuts between numbers ascending")
        return value

    @model_validator(mode="after")
    def _something_is_left(self) -> "EvaluationSettings":
        if self.folds == 1:
            raise ValueError("folds = 1 tests all patients and trains on none: 0, or at least 2")
        if self.folds and self.test_after is not None:
            raise ValueError("folds and test_after both say who is tested: leave one of them out")
        number, trainings = self.fold_number, self.folds * self.repeats
        if number and number >= trainings:
            raise ValueError(f"fold_number = {number}: there are {trainings} folds · repeats")
        if self.test + self.validation >= 0.9:
            raise ValueError("test + validation leave less than a tenth of the patients to train")
        return self


class Variant(Settings):
    """A row of `[ablation]`: settings that replace some of `[model]` and `[recipe]`. Others stay
    as they are, so that all rows test the same patients."""

    model: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)


class Experiment(Settings):
    """A whole `experiment.toml`."""

    name: Name
    task: Annotated[Task, _BY_NAME] = CLASSIFICATION
    """`progression` trains a generator of images in the same rounds; it has no test figures."""
    outcomes: list[Outcome] = Field(min_length=1, max_length=50)
    unit: Literal["patient", "image"] = "patient"
    """What is scored and counted; with `image`, variances are clustered by patient."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    model: ModelSettings = ModelSettings()
    recipe: RecipeSettings = RecipeSettings()
    generator: GeneratorSettings = GeneratorSettings()
    federation: FederationSettings = FederationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    ablation: dict[Name, Variant] = Field(default_factory=dict)
    """Name of a row -> its settings. `fedrad ablate` runs one experiment for each row; all other
    commands ignore them."""

    @model_validator(mode="after")
    def _hangs_together(self) -> "Experiment":
        for what, names in (
            ("outcomes", self.outcomes),
            ("evaluation.subgroups", [*self.evaluation.subgroups]),
        ):
            if len({folded(name) for name in names}) != len(names):
                raise ValueError(
                    f"{what}: each column may stand once; names that differ only in case, blanks, "
                    "- and _ are one column"
                )
        if unknown := set(self.model.base_outputs) - set(self.outcomes):
            raise ValueError(
                f"model.base_outputs names {sorted(unknown)}; outcomes are {self.outcomes}"
            )
        if self.evaluation.ensemble and self.model.weights == "random":
            raise ValueError(
                "evaluation.ensemble mixes with the base weights, which are random: pin others, or "
                "leave it out"
            )
        if self.evaluation.ensemble and self.recipe.batchnorm == "local":
            raise ValueError(
                "evaluation.ensemble mixes weights that all sites share, and recipe.batchnorm = "
                '"local" keeps some at each site: leave one of them out'
            )
        if self.evaluation.travel and not self.evaluation.local_baseline:
            raise ValueError("evaluation.travel needs evaluation.local_baseline = true")
        if self.evaluation.travel and not self.federation.sites:
            raise ValueError(
                "evaluation.travel needs federation.sites: each site approves a fixed number of "
                "models that it scores"
            )
        if self.evaluation.travel and self.recipe.batchnorm == "local":
            raise ValueError(
                'evaluation.travel sends local-only models, and recipe.batchnorm = "local" keeps '
                "parts of them at the site: leave one of them out"
            )
        if (self.unit == "image") != (self.evaluation.index_image == "all"):
            raise ValueError(
                'unit = "image" goes with evaluation.index_image = "all", unit = "patient" with '
                '"earliest" or "latest"'
            )
        sided = [o for o in self.outcomes if re.search(r"(?i)(?<![a-z])(left|right)(?![a-z])", o)]
        if sided and self.recipe.augmentation.flip:
            raise ValueError(
                f"outcomes {sided} have a side, which a flip exchanges: "
                "recipe.augmentation = { flip = 0 }"
            )
        self.task.check(self)
        if not self.task.tests_patients and (self.evaluation.ensemble or self.evaluation.travel):
            raise ValueError(
                f'task = "{self.task.name}" has no figures on patients: leave out '
                "evaluation.ensemble and evaluation.travel"
            )
        _ = self.schedule  # refuses a recipe that the rounds leave no room for
        return self

    @property
    def schedule(self) -> Schedule:
        """What is trained in each round."""
        return self.task.schedule(self.recipe, self.federation.rounds)

    @property
    def identity(self) -> str:
        """SHA-256 of all settings, written out in full (`written_out`): the same at every site. A
        version of fedrad with another default, or with one setting more, gives another one."""
        return sha256(self.written_out.encode()).hexdigest()

    @property
    def written_out(self) -> str:
        """All settings as JSON, defaults included, without `[ablation]`, which no site reads."""
        return json.dumps(self.model_dump(mode="json", exclude={"ablation"}), sort_keys=True)

    @property
    def family(self) -> str:
        """Identity of the cross-validation to which this belongs; all its folds share it."""
        whole = self.evaluation.model_copy(update={"fold_number": 0})
        return self.model_copy(update={"evaluation": whole}).identity

    @property
    def is_last_fold(self) -> bool:
        """Whether sites have the scores of all folds after this experiment; true without folds."""
        trainings = self.evaluation.folds * self.evaluation.repeats
        return not trainings or self.evaluation.fold_number == trainings - 1

    @property
    def evaluation_sha256(self) -> str:
        """SHA-256 of the plan of the evaluation: outcomes, unit, seed and `[evaluation]`."""
        planned = self.model_dump(mode="json", include={"outcomes", "unit", "seed", "evaluation"})
        del planned["evaluation"]["fold_number"]  # all folds follow one plan
        return sha256(json.dumps(planned, sort_keys=True).encode()).hexdigest()


def group_names(groups: Groups) -> list[str]:
    """Names of a column's groups as reports show them: values as they are, ranges as "< 1",
    "1 to < 18", "≥ 18"."""
    if isinstance(groups[0], str):
        return [str(group) for group in groups]
    cuts = [f"{float(cut):g}" for cut in groups]
    inner = [f"{low} to < {high}" for low, high in pairwise(cuts)]
    return [f"< {cuts[0]}", *inner, f"≥ {cuts[-1]}"]


def read_experiment(path: Path) -> tuple[Experiment, str]:
    """Read an experiment; returns it and the text of its file. Raises ExperimentError."""
    try:
        text = read_regular_text(path)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ExperimentError(
            f"{path}: cannot be read ({why}). `fedrad init` writes a commented one."
        ) from error
    return parse_experiment(text, str(path)), text


def parse_experiment(text: str, source: str = "experiment.toml") -> Experiment:
    """Parse the text of an experiment file. Raises ExperimentError, which names every fault."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of a huge number, or too deep a list
        raise ExperimentError(f"{source}: not valid TOML: {shown(str(error))}") from error
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise ExperimentError(explain_validation_error(error, source, Experiment)) from error
    _refuse_unread_settings(experiment.federation, source)
    return experiment


def _refuse_unread_settings(federation: FederationSettings, source: str) -> None:
    """Raise ExperimentError for what a file states and its strategy does not read. Summaries state
    all settings, so this is checked of files only."""
    read = ", ".join(SETTINGS_READ[federation.strategy]) or "none"
    lines = [
        f"{source}: federation.server.{name} = {getattr(federation.server, name)!r}: "
        f'strategy = "{federation.strategy}" does not read it; settings that it reads: {read}'
        for name in unread_settings(federation.strategy, federation.server)
    ]
    if lines:
        raise ExperimentError("\n".join(lines))
