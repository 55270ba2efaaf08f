"""One look at a whole cohort, as plain data that terminal, page and JSON show."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from fedrad.client.images import ImageStore, StoredImages
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.models.settings import InputSettings

from .checks import COHORT_CHECKS, RANK, Result, run
from .division import Division, describe, divide, is_held_out
from .evidence import Evidence, thumbnails
from .patients import Pseudonyms
from .table import find_by_uid, read_table
from .units import Cohort, index_rows, sift, unit

LOOK = InputSettings(size=128)
"""What pictures are looked at where no experiment says what it needs."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Inspection:
    """What was found. `units`: part (or "all") -> outcome -> [positives, negatives, unknown].
    `division`: what these parts are, where they are not those of one split (a fold, a site held
    out). `readiness`: word for word what the coordinator would learn, with an experiment."""

    site: str
    experiment: str | None
    table: dict[str, Any]
    outcomes: list[str]
    index_image: str
    units: dict[str, dict[str, list[int]]]
    results: list[Result]
    set_aside: dict[str, str]
    repeated: dict[str, str]
    division: str | None = None
    readiness: dict[str, Any] | None = None

    @property
    def status(self) -> int:
        """0: nothing to say, 1: warnings, 2: the site would not take part."""
        return max((RANK[result.severity] for result in self.results), default=0)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"format": 1, "status": self.status, **asdict(self)}


def inspect(
    site: Site, experiment: Experiment | None, progress: Progress
) -> tuple[Inspection, Evidence, StoredImages]:
    """Read a site's cohort and run every check. What was decoded is kept, so that an interrupted
    inspection continues where it stopped.

    With an experiment the patients are divided as a training that starts now would divide them, of
    a cross-validation for its fold (`evaluation.fold_number`). The division is not recorded: the
    file in `splits/` is read where there is one, and written by taking part alone. So a mistake in
    the table that the inspection finds can be mended before it has given a patient a side, and
    nothing is left of experiments that the site only looked at. Without an experiment nobody is
    divided.

    Returns what was found, what it was found in, and the pictures of `Evidence.rows`. Raises
    SiteProblem where the table or the store cannot be used at all.
    """
    settings = site.settings
    pseudonyms = Pseudonyms.kept(site.state)
    store = ImageStore(
        site.state / "images", limit_gib=settings.images_gib, workers=settings.decoders
    )
    table = read_table(site, experiment.outcomes if experiment else None, pseudonyms)
    table = find_by_uid(
        table, site, lambda files: store.instance_uids(files, partial(progress, "finding files"))
    )
    there = [row for row in table.rows if row.file is not None]
    images, readings = store.load(
        [row.file for row in there if row.file],
        experiment.model.input if experiment else LOOK,
        partial(progress, "reading images"),
        partial(progress, "looking for new files"),
    )
    usable = [i for i, reading in enumerate(readings) if reading.unusable is None]
    rows = [there[i] for i in usable]
    set_aside = {row.name: "no such file" for row in table.rows if row.file is None}
    set_aside |= {
        row.name: reading.unusable
        for row, reading in zip(there, readings, strict=True)
        if reading.unusable is not None
    }
    place = {row.name: i for i, row in enumerate(rows)}
    rule = experiment.evaluation.index_image if experiment else "earliest"
    chosen = [row for row in index_rows(table.rows, rule) if row.name in place]
    cohort, kept = sift(
        Cohort([unit(row) for row in chosen], {}, {}),
        [readings[usable[place[row.name]]] for row in chosen],
    )
    units = np.array([place[chosen[i].name] for i in kept], dtype=np.int64)
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
        results.append(run(check, evidence))
    found = Inspection(
        site=site.name,
        experiment=experiment.name if experiment else None,
        table={
            "encoding": table.encoding,
            "separator": table.separator,
            "images": len(table.rows),
            "patients": len({row.patient for row in table.rows}),
        },
        outcomes=list(table.outcomes),
        index_image=rule,
        units=_counts(evidence),
        results=results,
        set_aside=evidence.set_aside,
        repeated={**table.repeated, **cohort.repeated},
        division=describe(site, experiment) if experiment else None,
    )
    return found, evidence, pictures


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
