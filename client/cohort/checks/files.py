"""Checks of the files and of their dates."""

from collections.abc import Iterator

from fedrad.client.cohort.cells import day
from fedrad.client.cohort.evidence import Evidence
from fedrad.client.cohort.order import order_images
from fedrad.client.cohort.units import of_patients

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


class DatesOfFiles(Check[Evidence]):
    """Patients whose files were taken in another order than the table says."""

    name = "dates in the files"
    problem = "The image that stands for a patient may be a follow-up image."
    remedy = "Correct the order in the table, or find out which date is right."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding: patients of whom another image is earlier (or later) by its file than the
        one that stands for the patient. Files without a date do not count."""
        if subject.rule == "all":
            return
        dates = {
            row.name: taken
            for row, reading in zip(subject.rows, subject.readings, strict=True)
            if (taken := day(reading.tags.acquired))
        }
        first = min if subject.rule == "earliest" else max
        wrong = []
        for rows in of_patients(row for row in subject.rows if row.name in dates):
            ordered = order_images(rows, subject.rule)
            chosen, true = ordered.chosen[0], first(rows, key=lambda row: dates[row.name])
            if not ordered.tied and dates[chosen.name] != dates[true.name]:
                wrong.append(tuple(f"{row.name}: {dates[row.name]}" for row in (chosen, true)))
        if wrong:
            yield CheckFinding(
                f"{len(wrong)} patients have an image that is the {subject.rule} by the table and "
                "not by the dates in the files",
                wrong,
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
