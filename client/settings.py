"""`site.toml`: the settings and the policy of one hospital. The file is optional."""

import os
import tomllib
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from fedrad.exchange.names import Name, Outcome
from fedrad.exchange.validation_errors import explain_validation_error, shown
from fedrad.models.settings import Fraction, Settings
from fedrad.system.files import read_regular_text
from fedrad.system.folders import state_home

from .problems import SiteProblem

_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
ORDER_COLUMNS = ("order_index", "day_offset", "day", "date")
"""Columns that order a patient's images if `site.toml` names none. The first with values counts."""


class Columns(Settings):
    """`[columns]`: names of the columns of the cohort table.

    The table must have every column that site.toml names. Of the others it must have `patient`, and
    `file` or `instance_uid`.
    """

    file: str = "file"
    """Path of the image within the site's folder."""
    instance_uid: str = "sop_instance_uid"
    """SOP Instance UID of the image, if the table has no paths."""
    patient: str = "patient_id"
    order: str | None = None
    """Numbers or dates that order a patient's images."""
    date: str = "date"
    """Date of the image."""
    outcome_date: str = "outcome_date"
    """Date on which the outcome was known. If outcomes have dates of their own: `OUTCOME_date`."""
    split: str = "split"
    """`train`, `validation` or `test`, if the site itself divides its patients."""
    time: str | None = None
    """Time of day of the image, if the date has none: HH:MM, HH:MM:SS, or a DICOM time."""
    view: str = "view"
    scanner: str = "scanner"
    sex: str = "sex"
    age: str = "age"


class Budget(Settings):
    """`policy.budget`: limits for each patient over all experiments. None is no limit. A patient
    who has reached one is left out of further experiments."""

    experiments: int | None = Field(default=None, ge=1)
    """Most experiments that a patient trains in."""
    releases: int | None = Field(default=None, ge=1)
    """Most experiments whose released figures a patient enters."""
    epsilon: float | None = Field(default=None, gt=0.0)
    """Largest sum of ε of all released figures that a patient enters."""


class Policy(Settings):
    """`[policy]`: what may leave this site, and when it works, for every experiment."""

    coordinators: tuple[str, ...] = ()
    """`HOST:PORT` of the coordinators that this site may join; `*` matches any text. Empty: all."""
    experiments: tuple[str, ...] = ("*",)
    """Names of the experiments that may run here; `*` matches any text."""
    approval: bool = True
    """Whether a person must approve each experiment that a coordinator asks for."""
    release: Literal["approved"] | None = None
    """`approved`: an experiment runs only on the release of fedrad that was installed when it was
    approved; after an update it must be approved again."""
    hours: str | None = Field(default=None, pattern=rf"^{_CLOCK}-{_CLOCK}$")
    """Hours of the day in which this site works, such as "20:00-06:00", by this machine's clock."""
    rounds_per_day: int | None = Field(default=None, ge=0)
    """Most rounds of training a day, for all experiments together."""
    compute_hours_per_day: float | None = Field(default=None, ge=0.0)
    """Most hours of computing a day, with or without a GPU, for all experiments together."""
    columns: tuple[Outcome, ...] | None = None
    """Columns of the cohort table that experiments may use as outcomes and for groups. A site that
    has joined must name them."""
    budget: Budget = Budget()
    monitoring: Literal["rounded", "noisy", "none"] = "rounded"
    """What leaves about the validation patients in each round: AUROCs with noise of one standard
    error, rounded; AUROCs with more noise, all rounds together within `epsilon`; or nothing."""
    minimum_units: int = Field(default=10, ge=1)
    """Figures about a class with fewer units do not leave. That a class has no unit does."""
    minimum_bin: int = Field(default=3, ge=1)
    """Fewest units in a bin of a histogram."""
    epsilon: float = Field(default=0.0, ge=0.0, le=100.0)
    """Above 0: each histogram has Laplace noise of this ε, and no exact figure leaves, nor a number
    of patients of a class."""
    share_histograms: bool = True
    """Whether histograms of scores leave. Otherwise thresholds, calibration and pooled figures are
    computed without this site."""
    share_subgroups: bool = True
    """Whether figures of groups of patients leave."""
    share_local_model: bool = False
    """Whether the site's local-only model may leave, to be scored at other sites."""
    test_other_models: bool = False
    """Whether other sites' local-only models are scored here."""
    share_generator: bool = False
    """Whether weights of a generator trained here may leave. They can reveal training images."""

    @model_validator(mode="after")
    def _noise_has_a_size(self) -> "Policy":
        if self.monitoring == "noisy" and not self.epsilon:
            raise ValueError(
                'monitoring = "noisy" needs epsilon > 0, which says how much noise: set epsilon, '
                'or monitoring = "rounded" or "none"'
            )
        return self

    @model_validator(mode="after")
    def _budget_of_epsilon_has_noise(self) -> "Policy":
        if self.budget.epsilon is not None and not self.epsilon:
            raise ValueError(
                "budget.epsilon adds up the noise of figures, and without epsilon they leave "
                "exactly: set epsilon too, or limit budget.releases"
            )
        return self

    def is_open(self, now: time) -> bool:
        """Whether a time of day lies within `hours`, which may span midnight."""
        if self.hours is None:
            return True
        start, end = (time.fromisoformat(clock) for clock in self.hours.split("-"))
        if start <= end:
            return start <= now < end
        return now >= start or now < end


class SiteSettings(Settings):
    """The content of `site.toml`."""

    name: Name
    cohort: str = "cohort.csv"
    state: str | None = None
    """State folder: decoded images, local models, log, ledger."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads for training. 0: OMP_NUM_THREADS if set, else all cores. With one thread, every
    machine computes exactly the same figures."""
    tolerance: Fraction = 0.05
    """Largest share of files that may be unusable."""
    images_gib: float = Field(default=50.0, gt=0.0)
    """Largest size of the store of decoded images, GiB."""
    decoders: int = Field(default=0, ge=0, le=1024)
    """Processes that decode files in parallel; 0 for one per core."""
    activations_gib: float = Field(default=20.0, ge=0.0)
    """Disk space for the outputs of frozen blocks on fixed views (`recipe.views`), GiB. 0: none."""
    patient_numbers: Literal["exact", "digits"] | None = None
    """Whether patient numbers that differ only in case, leading zeros, `.0` and punctuation are
    different patients (`exact`) or one (`digits`). None: such numbers are refused. Set it before
    the first experiment: with another rule, patients are not recognised."""
    unordered: Literal["left out"] | None = None
    """A patient of whose images it is unknown which is the earliest (or the latest) is left out.
    None: the first of them by name stands for the patient."""
    columns: Columns = Columns()
    policy: Policy = Policy()


JOINED = "joined"
"""Key of the node configuration by which `fedrad-site start` marks a node that a hospital runs."""


@dataclass(frozen=True)
class Site:
    """A hospital's folder with its settings, its cohort table and its state folder."""

    folder: Path
    settings: SiteSettings
    state: Path

    @property
    def name(self) -> str:
        """The site's name in the federation."""
        return self.settings.name

    @property
    def joined(self) -> bool:
        """Whether this site has joined a real federation with `fedrad-site join`.

        False in a simulation, whose sites have state folders of their own.
        """
        # Also a link to a disk that is not mounted: such a site has joined, and is refused later.
        return os.path.lexists(self.state / "membership.json")

    @property
    def cohort(self) -> Path:
        """The cohort table; files in it are relative to its folder."""
        return self.folder / self.settings.cohort


def open_site(folder: Path, *, name: str | None = None, state: Path | None = None) -> Site:
    """Open a site's folder and read its `site.toml`, if there is one.

    Parameters
    ----------
    folder
        The site's folder.
    name
        Name of the site, instead of that in `site.toml`.
    state
        State folder, instead of that in `site.toml`.

    Raises
    ------
    SiteProblem
        With the reason "cohort", for a missing folder, a faulty file, or a site without a name;
        with the reason "policy", for a site that has joined and has no settings.
    """
    if not folder.is_dir():
        raise SiteProblem("cohort", f"{folder}: no such folder")
    file = folder / "site.toml"
    try:
        there = os.path.lexists(file)  # a link to nothing is no site without settings
        given = tomllib.loads(read_regular_text(file)) if there else {}
        if name is not None:
            given["name"] = name
        if "name" not in given:
            lacking = "name: missing" if there else "no such file (init writes one)"
            raise SiteProblem(
                "cohort",
                f"{file}: {lacking}; give the site's name there, as the coordinator "
                'writes it (name = "hospital-a"), or with --name',
            )
        settings = SiteSettings.model_validate(given)
    except ValidationError as error:
        raise SiteProblem(
            "cohort", explain_validation_error(error, str(file), SiteSettings)
        ) from error
    except (ValueError, RecursionError, OSError) as error:
        raise SiteProblem("cohort", f"{file}: cannot be read: {_why(error)}") from error
    if state is None:
        state = folder / settings.state if settings.state else state_home() / settings.name
    site = Site(folder, settings, state)
    if site.joined:
        check_settings_file(folder)
    return site


def _why(error: Exception) -> str:
    """Why a settings file cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text; save it as UTF-8"
    if isinstance(error, RecursionError):
        return "its lists are too deep"
    return (error.strerror if isinstance(error, OSError) else None) or shown(str(error))


def check_settings_file(folder: Path) -> None:
    """Raise SiteProblem("policy") unless `site.toml` is there, can be read and says something. A
    site that has joined a federation has no default policy."""
    file = folder / "site.toml"
    try:
        if os.path.lexists(file) and tomllib.loads(read_regular_text(file)):
            return
        why = "is missing or empty"
    except (ValueError, RecursionError, OSError) as error:
        why = f"cannot be read ({_why(error)})"
    raise SiteProblem(
        "policy",
        f"{file}: {why}, and a site that has joined has no default policy. Restore it, or write "
        "one (`fedrad-site init`), then `fedrad-site policy accept FOLDER`",
    )
