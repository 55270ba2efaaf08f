"""Inspection of a whole cohort, as plain data for the terminal, the page and JSON."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from fedrad.client.images import ImageStore, StoredImages
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.models.settings import InputSettings

from .checks import COHORT_CHECKS, SEVERITY_RANK, CheckResult, run_check
from .division import Division, describe_division, divide, is_held_out
from .evidence import Evidence, thumbnails
from .instance_uids import find_by_uid
from .patients import Pseudonyms
from .table import read_table
from .units import Cohort, index_rows, remove_unusable, unit

DEFAULT_INPUT = InputSettings(size=128)
"""Size of the pictures that are inspected without an experiment."""

InspectionProgress = Callable[[str, int, int], None]
"""Called with the name of a step, the number of items done, and their total."""


@dataclass(frozen=True)
class Inspection:
    """Result of an inspection.

    Attributes
    ----------
    site, experiment
        Names; the experiment is None if none was given.
    table
        Encoding and separator of the cohort table, number of its rows, of the images and patients
        that were read, and of patients who withdrew and are not among them; `counted`: the same as
        a sentence.
    outcomes, index_image
        Outcomes of the units, and the rule that chose the image of each patient.
    units
        Part (or "all") -> outcome -> [positives, negatives, unknown].
    results
        Result of each check.
    set_aside, repeated
        File -> reason why it is not used.
    division
        Explains the parts of a cross-validation or of a held-out site; None for an ordinary split.
    readiness
        With an experiment: exactly what the coordinator would receive.
    """

    site: str
    experiment: str | None
    table: dict[str, Any]
    outcomes: list[str]
    index_image: str
    units: dict[str, dict[str, list[int]]]
    results: list[CheckResult]
    set_aside: dict[str, str]
    repeated: dict[str, str]
    division: str | None = None
    readiness: dict[str, Any] | None = None

    @property
    def status(self) -> int:
        """Exit status. 0: no warnings, 1: warnings, 2: the site would not take part."""
        return max((SEVERITY_RANK[result.severity] for result in self.results), default=0)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"format": 1, "status": self.status, **asdict(self)}


def inspect(
    site: Site, experiment: Experiment | None, progress: InspectionProgress
) -> tuple[Inspection, Evidence, StoredImages]:
    """Read a site's cohort and run every check.

    Decoded images are stored, so that an interrupted inspection continues where it stopped.

    With an experiment, the patients are divided as a training would divide them now; in a
    cross-validation, for the fold `evaluation.fold_number`. The division file in `splits/` is read
    but not written: only a training writes it. An error in the table that the inspection reveals
    can therefore be corrected before any patient is assigned for good.

    Parameters
    ----------
    site
        The site to inspect.
    experiment
        The experiment that decides outcomes, image size and division; None to inspect all outcomes
        of the table without a division.
    progress
        Called after each item.

    Returns
    -------
    tuple[Inspection, Evidence, StoredImages]
        The result, the data that the checks examined, and the pictures of `Evidence.rows`.

    Raises
    ------
    SiteProblem
        If the table or the image store cannot be used at all.
    """
    settings = site.settings
    pseudonyms = Pseudonyms.of_site(site)
    store = ImageStore(
        site.state / "images", limit_gib=settings.images_gib, workers=settings.decoders
    )
    table = read_table(site, experiment.outcomes if experiment else None, pseudonyms)
    table = find_by_uid(
        table, site, lambda files: store.instance_uids(files, partial(progress, "finding files"))
    )
    with_file = [row for row in table.rows if row.file is not None]
    images, readings = store.load(
        [row.file for row in with_file if row.file],
        experiment.model.input if experiment else DEFAULT_INPUT,
        partial(progress, "reading images"),
        partial(progress, "looking for new files"),
    )
    usable = [i for i, reading in enumerate(readings) if reading.unusable is None]
    rows = [with_file[i] for i in usable]
    set_aside = {row.name: row.why_missing for row in table.rows if row.file is None}
    set_aside |= {
        row.name: reading.unusable
        for row, reading in zip(with_file, readings, strict=True)
        if reading.unusable is not None
    }
    position = {row.name: i for i, row in enumerate(rows)}
    rule = experiment.evaluation.index_image if experiment else "earliest"
    index_images, unordered = index_rows(site, table.rows, rule)
    chosen = [row for row in index_images if row.name in position]
    cohort, usable_units = remove_unusable(
        Cohort([unit(row) for row in chosen], {}, {}),
        [readings[usable[position[row.name]]] for row in chosen],
    )
    units = np.array([position[chosen[i].name] for i in usable_units], dtype=np.int64)
    parts: Division = {}
    if experiment:
        fold = experiment.evaluation.fold_number
        parts = divide(site, experiment, cohort.units, fold, record=False)
    pictures = images.select(usable)
    evidence = Evidence(
        table=table,
        rows=rows,
        readings=[readings[i] for i in usable],
        thumbnails=thumbnails(pictures, range(len(pictures))),
        units=units,
        set_aside=set_aside | cohort.set_aside,
        files=len(table.rows),
        rule=rule,
        unordered=unordered,
        groups=experiment.evaluation.subgroups if experiment else {},
        tolerance=settings.tolerance,
        minimum=max(
            settings.policy.minimum_units, experiment.evaluation.minimum_units if experiment else 0
        ),
        parts=parts,
        cross_validated=bool(
            experiment and experiment.evaluation.folds and not is_held_out(site, experiment)
        ),
    )
    results = []
    for done, check in enumerate(COHORT_CHECKS):
        progress(f"checking: {check.name}", done, len(COHORT_CHECKS))
        results.append(run_check(check, evidence))
    inspection = Inspection(
        site=site.name,
        experiment=experiment.name if experiment else None,
        table={
            "encoding": table.encoding,
            "separator": table.separator,
            "rows": table.file_rows,
            "images": len(table.rows),
            "patients": table.patients,
            "withdrawn": table.withdrawn,
            "counted": table.counted(),
        },
        outcomes=list(table.outcomes),
        index_image=rule,
        units=_counts(evidence),
        results=results,
        set_aside=evidence.set_aside,
        repeated={**table.repeated, **cohort.repeated},
        division=describe_division(site, experiment) if experiment else None,
    )
    return inspection, evidence, pictures


def _counts(evidence: Evidence) -> dict[str, dict[str, list[int]]]:
    labels = evidence.labels[evidence.units]

    def of(members: Sequence[int] | Any) -> dict[str, list[int]]:
        return {
            outcome: [
                int((labels[members, at] == 1).sum()),
                int((labels[members, at] == 0).sum()),
                int(np.isnan(labels[members, at]).sum()),
            ]
            for at, outcome in enumerate(evidence.table.outcomes)
        }

    return {"all": of(slice(None)), **{str(p): of(m) for p, m in evidence.parts.items()}}
