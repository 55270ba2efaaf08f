"""From rows to units: which images stand for a patient, and what cannot."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np

from fedrad.client.images import Reading
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import Part

from .patients import Pseudonyms
from .spreadsheet import day
from .table import InstanceUids, Row, find_by_uid, read_table

IndexRule = Literal["earliest", "latest", "all"]

PART_WORDS: dict[str, Part] = {
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
    """What is scored: a patient with the image that stands for them, or one of their images.

    `key`: the patient's pseudonym, the same in every experiment of the site. `labels`: 0, 1 or
    NaN, in the order of the experiment's outcomes. `draw`: the patient's place in the lot of the
    split. `name`: the file as the table has it. `part`: side that the table gives, if any.
    `day`: date of the image, if known. `values`: other columns of the table, for subgroups.
    """

    key: str
    file: Path
    labels: tuple[float, ...]
    draw: str = ""
    name: str = ""
    part: Part | None = None
    day: date | None = None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """A site's units, and what could not become one (file as in the table -> reason).

    `set_aside`: missing, unreadable, contradictory. `repeated`: rows and images that are there
    already.
    """

    units: list[Unit]
    set_aside: dict[str, str]
    repeated: dict[str, str]


def read_cohort(
    site: Site, experiment: Experiment, instance_uids: InstanceUids | None = None
) -> Cohort:
    """The units of an experiment at a site, before any image was read.

    The index rule looks at the table alone: where the index image is missing, the patient is set
    aside, for a later image may show what was to be foretold. Raises SiteProblem as `read_table`.
    """
    pseudonyms = Pseudonyms.kept(site.state)
    table = read_table(site, experiment.outcomes, pseudonyms)
    if instance_uids is not None:
        table = find_by_uid(table, site, instance_uids)
    rows = index_rows(table.rows, experiment.evaluation.index_image)
    set_aside = {row.name: "no such file" for row in rows if row.file is None}
    units = [unit(row) for row in rows if row.file is not None]
    if not units:
        raise SiteProblem("cohort", f"{table.path}: no patient's index image is there")
    return Cohort(units, set_aside, dict(table.repeated))


def unit(row: Row) -> Unit:
    """A unit of a row whose file exists. Raises SiteProblem for an unknown word in `split`."""
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


def index_rows(rows: Sequence[Row], rule: IndexRule) -> list[Row]:
    """The rows that stand for their patients, by the first order column that all rows of the
    patient have, else by their order in the table; the name decides between equals."""
    by_patient: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_patient[row.patient].append(row)
    chosen: list[Row] = []
    for images in by_patient.values():
        column = order_column(images)
        ordered = sorted(
            images, key=lambda r: (r.line if column is None else r.orders[column], r.name)
        )
        chosen += ordered if rule == "all" else [ordered[-1 if rule == "latest" else 0]]
    return chosen


def order_column(images: Sequence[Row]) -> int | None:
    """The first order column that all these rows have a value in; None where there is none."""
    complete = ~np.isnan(np.array([row.orders for row in images])).any(axis=0)
    return int(np.argmax(complete)) if complete.any() else None


def sift(cohort: Cohort, readings: Sequence[Reading]) -> tuple[Cohort, list[int]]:
    """The cohort without the units whose file cannot be used, and the rows of those that stay.

    `readings`: one per unit. Images of equal pixels: with different outcomes all are set aside,
    for nobody can tell which is right; else the first is used, by the order of the units.
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
    return Cohort([units[row] for row in usable], set_aside, repeated), usable
