"""`experiment.toml`: one federated training with its settings, validated once, here."""

import json
import re
import tomllib
from datetime import date
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    Field,
    GetPydanticSchema,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from fedrad.models.progression.settings import GeneratorSettings
from fedrad.models.schedule import Schedule
from fedrad.models.settings import Fraction, ModelSettings, RecipeSettings, Settings
from fedrad.models.tasks import CLASSIFICATION, TASKS, Task, TaskName
from fedrad.system.errors import UserError

from .strategies import ServerSettings, StrategyName, check_strategy

NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
"""Name of a site or experiment, also of files: letters, digits, `.`, `_`, `-`; at most 64."""

Outcome = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9 ._-]{0,63}$")]

Groups = Annotated[
    tuple[Annotated[float, Field(strict=True)], ...]
    | tuple[Annotated[str, Field(strict=True)], ...],
    Field(min_length=1, max_length=20),
]
"""Groups of a column: its values (`["F", "M"]`), or the cuts between ranges of numbers."""

_BY_NAME = GetPydanticSchema(
    lambda _, handler: core_schema.no_info_after_validator_function(
        TASKS.__getitem__,
        handler(TaskName),
        serialization=core_schema.plain_serializer_function_ser_schema(lambda task: task.name),
    )
)
"""A task is written as its name."""


Encoding = Literal["float32", "float16", "bfloat16", "int8"]
"""How the values of an update travel."""


class ExperimentError(UserError):
    """An experiment file that cannot be used: which key, which value, what is allowed."""


class FederationSettings(Settings):
    """`[federation]`: rounds and who must take part."""

    rounds: int = Field(default=30, ge=1, le=10_000)
    sites: tuple[Name, ...] = ()
    """Sites to wait for before the first round; empty: start with a quorum."""
    quorum: int = Field(default=2, ge=1)
    """Fewest sites whose updates make a round."""
    deadline_minutes: float = Field(default=60.0, gt=0.0)
    """A round closes without those that have not answered by then."""
    patience_hours: float = Field(default=72.0, ge=0.0)
    """How long to wait for sites where there is no quorum, before the experiment stops as failed;
    it can be resumed."""
    encoding: Encoding = "float32"
    """How weights travel, both ways; all but float32 as differences to the last global model."""
    strategy: StrategyName = "fedavg"
    server: ServerSettings = ServerSettings()
    weighting: Literal["patients", "images", "equal"] = "patients"
    """What a site counts by; the robust rules (median, trimmed-mean, krum) give each one voice."""
    outlier_factor: float = Field(default=20.0, gt=1.0)
    """An update whose norm is this many times the (lower) median norm of the round is rejected."""
    train_one_class: bool = False
    """Whether a site whose training units are all of one class trains; otherwise it evaluates."""

    @model_validator(mode="after")
    def _strategy_has_its_sites(self) -> "FederationSettings":
        check_strategy(self.strategy, self.server, self.quorum)
        return self


class EvaluationSettings(Settings):
    """`[evaluation]`: fixed, hashed and shown before the first round."""

    test: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of each site's patients kept for testing, used once at the end."""
    validation: float = Field(default=0.15, ge=0.0, lt=1.0)
    """Share of each site's patients for monitoring and for the threshold."""
    test_after: date | None = None
    """Patients with an image after this date are the test patients, instead of a share."""
    index_image: Literal["earliest", "latest", "all"] = "earliest"
    """Which of a patient's images stands for the patient; `all` with `unit = "image"`."""
    minimum_units: int = Field(default=10, ge=1)
    """Fewest units of a class for which figures are asked; a site may ask for more."""
    ensemble: tuple[Fraction, ...] = Field(default=(), max_length=11)
    """Weight-space ensemble with the base (WiSE-FT): shares of the trained backbone to try, on
    validation patients; empty: the trained model as it is, which is always among those tried."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    local_baseline: bool = True
    """Whether each site also trains alone, same recipe and budget, for comparison."""
    travel: bool = False
    """Whether local-only models are also scored at the other sites that agree; both sites must."""
    folds: int = Field(default=0, ge=0, le=20)
    """Cross-validation: every patient is tested in one of so many folds; 0: none, one split."""
    repeats: int = Field(default=1, ge=1, le=20)
    """How often the division into folds is drawn anew."""
    fold_number: int = Field(default=0, ge=0)
    """Which of the folds · repeats trainings this is; `fedrad cross-validate` runs them all."""
    held_out: tuple[Name, ...] = ()
    """Sites that take no part in training or choices: all their patients are for testing."""
    subgroups: dict[Outcome, Groups] = Field(default_factory=dict)
    """Column of the cohort table -> its groups, in which the global model is looked at."""

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
    """A row of `[ablation]`: settings of `[model]` and `[recipe]` in place of the file's. Others
    stay, so that all rows test the same patients."""

    model: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)


class Experiment(Settings):
    """A whole `experiment.toml`."""

    name: Name
    task: Annotated[Task, _BY_NAME] = CLASSIFICATION
    """`progression` trains a generator of images, in the same rounds; there are no test figures."""
    outcomes: list[Outcome] = Field(min_length=1, max_length=50)
    unit: Literal["patient", "image"] = "patient"
    """What is scored and counted. With `image`, variances are clustered by patient."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    model: ModelSettings = ModelSettings()
    recipe: RecipeSettings = RecipeSettings()
    generator: GeneratorSettings = GeneratorSettings()
    federation: FederationSettings = FederationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    ablation: dict[Name, Variant] = Field(default_factory=dict)
    """Row -> what it changes; for `fedrad ablate`, which runs an experiment for each. All else
    runs the experiment without them."""

    @model_validator(mode="after")
    def _hangs_together(self) -> "Experiment":
        if len(set(self.outcomes)) != len(self.outcomes):
            raise ValueError("outcomes: each may stand once")
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
        """What is trained in which of the rounds."""
        return self.task.schedule(self.recipe, self.federation.rounds)

    @property
    def identity(self) -> str:
        """SHA-256 of all that was set, the same at every site and whatever a later version adds:
        settings left at their defaults do not count."""
        given = self.model_dump(mode="json", exclude_defaults=True, exclude={"ablation"})
        return sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()

    @property
    def family(self) -> str:
        """Identity of the cross-validation that this experiment is a fold of: the same for all."""
        whole = self.evaluation.model_copy(update={"fold_number": 0})
        return self.model_copy(update={"evaluation": whole}).identity

    @property
    def is_last_fold(self) -> bool:
        """Whether sites have all scores after this experiment; true without folds."""
        trainings = self.evaluation.folds * self.evaluation.repeats
        return not trainings or self.evaluation.fold_number == trainings - 1

    @property
    def evaluation_sha256(self) -> str:
        """Hash of what was planned to be reported: outcomes, unit, seed, `[evaluation]`."""
        planned = self.model_dump(mode="json", include={"outcomes", "unit", "seed", "evaluation"})
        del planned["evaluation"]["fold_number"]  # all folds follow one plan
        return sha256(json.dumps(planned, sort_keys=True).encode()).hexdigest()


def group_names(groups: Groups) -> list[str]:
    """Names of a column's groups for people: values as they are, ranges as "< 1", "1 to < 18",
    "≥ 18"."""
    if isinstance(groups[0], str):
        return [str(group) for group in groups]
    cuts = [f"{float(cut):g}" for cut in groups]
    inner = [f"{low} to < {high}" for low, high in pairwise(cuts)]
    return [f"< {cuts[0]}", *inner, f"≥ {cuts[-1]}"]


def read_experiment(path: Path) -> tuple[Experiment, str]:
    """The experiment of a file and the file's text. Raises ExperimentError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(
            f"{path}: cannot be read ({error}). `fedrad init` writes a commented one."
        ) from error
    return parse_experiment(text, str(path)), text


def parse_experiment(text: str, source: str = "experiment.toml") -> Experiment:
    """An experiment from the text of its file. Raises ExperimentError naming every fault."""
    try:
        return Experiment.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{source}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ExperimentError(explain(error, source, Experiment)) from error


def explain(error: ValidationError, source: str, model: type[Settings]) -> str:
    """A validation error as lines a person can act on: key, value, what is allowed."""
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "(file)"
        if fault["type"] == "extra_forbidden":
            allowed = _keys_beside(model, fault["loc"])
            lines.append(f"{key}: unknown setting; known here: {', '.join(allowed)}")
        elif fault["type"] == "missing":
            lines.append(f"{key}: missing")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            given = "" if isinstance(fault["input"], dict) else f" = {fault['input']!r}"
            lines.append(f"{key}{given}: {message}")
    return "\n".join(f"{source}: {line}" for line in lines)


def _keys_beside(model: type[Settings], location: tuple[int | str, ...]) -> list[str]:
    fields: Any = model
    for part in location[:-1]:
        if get_origin(fields) is dict:  # name -> settings
            fields = get_args(fields)[1]
        else:
            fields = fields.model_fields[part].annotation
    return sorted(fields.model_fields)
