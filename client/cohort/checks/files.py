"""Checks of the files and of the rows of the table."""

from collections import defaultdict
from collections.abc import Iterator

from fedrad.client.cohort.evidence import Evidence
from fedrad.client.cohort.spreadsheet import day
from fedrad.client.cohort.units import order_column

from .check import Check, CheckFinding


class UnusableFiles(Check[Evidence]):
    """Files that are missing, unreadable or not radiographs."""

    name = "files set aside"
    problem = "A file that cannot be read takes its patient out of the cohort."
    remedy = "Export these files again from the archive, or take their rows out of the table."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding; it refuses to take part if the share is above the site's tolerance."""
        count, share = len(subject.set_aside), len(subject.set_aside) / max(subject.files, 1)
        if not count:
            return
        above = share > subject.tolerance
        yield CheckFinding(
            f"{count} of {subject.files} files ({share:.1%}) cannot be used; site.toml tolerates "
            f"{subject.tolerance:.1%}" + (", so the site would not take part" if above else ""),
            [(f"{file}: {reason}",) for file, reason in subject.set_aside.items()],
            severity="refused" if above else None,
        )


class RepeatedRows(Check[Evidence]):
    """Rows that repeat another row."""

    name = "repeated rows"
    problem = "A row that stands twice counts once; it hints at a faulty export of the table."
    remedy = "Remove the repetition."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding with all repeated rows."""
        if subject.table.repeated:
            yield CheckFinding(
                f"{len(subject.table.repeated)} rows repeat another row",
                [(f"{row}: {why}",) for row, why in subject.table.repeated.items()],
            )


class UnorderedImages(Check[Evidence]):
    """Patients with several images in no known order."""

    name = "order of a patient's images"
    problem = (
        "Without a date or an order, the image that stands for a patient is the first in the "
        "table, which may be a follow-up image that already shows the outcome."
    )
    remedy = "Fill in a column order_index, day_offset, day or date for these images."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding: patients with several rows and no order column that is filled in for all."""
        by_patient = defaultdict(list)
        for row in subject.table.rows:
            by_patient[row.patient].append(row)
        several = [rows for rows in by_patient.values() if len(rows) > 1]
        unordered = [rows for rows in several if order_column(rows) is None]
        if unordered:
            yield CheckFinding(
                f"{len(unordered)} of {len(several)} patients with several images have no order",
                [tuple(row.name for row in rows) for rows in unordered],
            )


class ImagesAfterOutcome(Check[Evidence]):
    """Images taken after the outcome was known."""

    name = "images after the outcome"
    problem = "An image taken after the outcome shows it; a model trained on it predicts nothing."
    remedy = 'Leave these images out, or keep index_image = "earliest" and check their dates.'

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding per outcome, by the date in the table, else by the date in the file."""
        units = set(subject.units.tolist())
        for at, outcome in enumerate(subject.table.outcomes):
            late = []
            for index, (row, reading) in enumerate(
                zip(subject.rows, subject.readings, strict=True)
            ):
                taken = day(row.values.get("date", "")) or day(reading.tags.acquired)
                known = day(
                    row.values.get(f"{outcome}_date", "") or row.values.get("outcome_date", "")
                )
                if taken and known and taken > known and row.labels[at] == row.labels[at]:
                    late.append((index, f"{row.name}: {taken}, outcome {known}"))
            if late:
                scored = sum(index in units for index, _ in late)
                yield CheckFinding(
                    f"{len(late)} images were taken after {outcome} was known; {scored} of them "
                    "stand for their patients",
                    [(text,) for _, text in late],
                )
