"""Chooses the units of a cohort: the images that represent each patient, without unusable ones."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from fedrad.client.images import Reading
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import SplitPart
from fedrad.exchange.names import folded

from .cells import day
from .groups import group_of
from .instance_uids import InstanceUids, find_by_uid
from .order import IndexRule, order_images
from .patients import Pseudonyms
from .table import CohortRow, read_table

PART_WORDS: dict[str, SplitPart] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Unit:
    """The object that is scored: a patient, represented by one image, or a single image.

    Attributes
    ----------
    key
        Pseudonym of the patient, the same in every experiment of the site.
    file
        The image.
    labels
        0, 1 or NaN, in the order of the experiment's outcomes.
    draw
        Digest of the patient number, which orders the patients for the division.
    name
        The file as the table names it.
    part
        Part that the table gives, if any.
    day
        Date of the image, if known.
    values
        Cells of other columns of the table, for subgroups.
    """

    key: str
    file: Path
    labels: tuple[float, ...]
    draw: str = ""
    name: str = ""
    part: SplitPart | None = None
    day: date | None = None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """A site's units, and the files that are not used (file as in the table -> reason).

    `set_aside`: missing, unreadable or contradictory files. `repeated`: rows and images that repeat
    another. `unordered`: images of patients who are left out because it is unknown which of their
    images is the earliest. `read`: sentence with the numbers of rows and patients that were read.
    """

    units: list[Unit]
    set_aside: dict[str, str]
    repeated: dict[str, str]
    unordered: dict[str, str] = field(default_factory=dict)
    read: str = ""


def read_cohort(
    site: Site, experiment: Experiment, instance_uids: InstanceUids | None = None
) -> Cohort:
    """The units of an experiment at a site, before any image is read.

    The index rule uses the table alone. If the index image is missing, the patient is set aside,
    because a later image may already show the outcome.

    Parameters
    ----------
    site
        The site, whose table is read.
    experiment
        The experiment: its outcomes and index rule.
    instance_uids
        As for `find_by_uid`; None if the table names files by path.

    Raises
    ------
    SiteProblem
        As `read_table` and `find_by_uid`, and if no index image exists.
    """
    pseudonyms = Pseudonyms.of_site(site)
    table = read_table(site, experiment.outcomes, pseudonyms)
    if instance_uids is not None:
        table = find_by_uid(table, site, instance_uids)
    rows, unordered = index_rows(site, table.rows, experiment.evaluation.index_image)
    rows = with_spellings(rows, experiment.evaluation.subgroups)
    for column, groups in experiment.evaluation.subgroups.items():
        group_of([row.values.get(column, "") for row in rows], groups)  # refuses bad ages now
    set_aside = {row.name: row.why_missing for row in rows if row.file is None}
    units = [unit(row) for row in rows if row.file is not None]
    if not units:
        raise SiteProblem("cohort", f"{table.path}: no patient's index image is there")
    return Cohort(units, set_aside, dict(table.repeated), unordered, table.counted())


def with_spellings(rows: Sequence[CohortRow], columns: Iterable[str]) -> list[CohortRow]:
    """Rows whose `values` have these columns under the spelling that is given, if the table has
    them under another one (`folded`). Raises SiteProblem if the table has a column twice."""
    given = [(column, folded(column)) for column in columns]
    spelled = []
    for row in rows:
        values = dict(row.values)
        for column, name in given:
            same = [key for key in row.values if folded(key) == name]
            if len(same) > 1:
                raise SiteProblem(
                    "cohort",
                    f"the cohort table has the column {column!r} {len(same)} times: {same}; keep "
                    "one",
                )
            if same:
                values[column] = row.values[same[0]]
        spelled.append(replace(row, values=values))
    return spelled


def unit(row: CohortRow) -> Unit:
    """The unit of a row whose file exists. Raises SiteProblem for an unknown word in `split`."""
    assert row.file is not None
    word = row.values.get("split", "")
    if word and word.casefold() not in PART_WORDS:
        raise SiteProblem(
            "cohort",
            f"line {row.line} of the cohort table: split = {word!r}; allowed are train, "
            "validation, test and empty",
        )
    return Unit(
        key=row.patient,
        file=row.file,
        labels=row.labels,
        draw=row.draw,
        name=row.name,
        part=PART_WORDS[word.casefold()] if word else None,
        day=day(row.values.get("date", "")),
        values=row.values,
    )


def index_rows(
    site: Site, rows: Sequence[CohortRow], rule: IndexRule
) -> tuple[list[CohortRow], dict[str, str]]:
    """The rows that represent their patients, in the order of `rows`, and the images that do not
    because it is unknown which is the earliest (image -> reason), if site.toml says `unordered =
    "left out"`. See `order_images`."""
    chosen: list[CohortRow] = []
    left_out: dict[str, str] = {}
    for images in of_patients(rows):
        ordered = order_images(images, rule)
        if ordered.tied and site.settings.unordered:
            left_out |= dict.fromkeys(
                (image.name for image in ordered.tied),
                f"which image of its patient is the {rule} is unknown",
            )
        else:
            chosen += ordered.chosen
    return chosen, left_out


def of_patients(rows: Iterable[CohortRow]) -> Iterable[list[CohortRow]]:
    """The rows of each patient, in the order of their first row."""
    by_patient: dict[str, list[CohortRow]] = defaultdict(list)
    for row in rows:
        by_patient[row.patient].append(row)
    return by_patient.values()


def remove_unusable(cohort: Cohort, readings: Sequence[Reading]) -> tuple[Cohort, list[int]]:
    """Remove the units whose file cannot be used.

    Of images with equal pixels, the first unit is used. If their outcomes differ, all are set
    aside, because it is unknown which outcome is right.

    Parameters
    ----------
    cohort
        The n units.
    readings
        Reading of each unit's file, n in all.

    Returns
    -------
    tuple[Cohort, list[int]]
        The cohort of the remaining units, and their positions in `cohort.units`, ascending.
    """
    units = cohort.units
    set_aside = dict(cohort.set_aside)
    repeated = dict(cohort.repeated)
    groups: dict[str, list[int]] = defaultdict(list)
    for row, reading in enumerate(readings):
        if reading.unusable is not None:
            set_aside[units[row].name] = reading.unusable
        else:
            groups[reading.pixels or str(row)].append(row)
    usable = []
    for group in groups.values():
        first = units[group[0]]
        if len({repr(units[row].labels) for row in group}) > 1:
            for row in group:
                other = units[group[1]] if row == group[0] else first
                set_aside[units[row].name] = f"same pixels as {other.name}, with another outcome"
            continue
        usable.append(group[0])
        for row in group[1:]:
            who = "" if units[row].key == first.key else ", which stands for another patient"
            repeated[units[row].name] = f"same pixels as {first.name}{who}"
    usable.sort()
    remaining = [units[row] for row in usable]
    return replace(cohort, units=remaining, set_aside=set_aside, repeated=repeated), usable
