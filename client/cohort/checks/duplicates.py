"""Checks of images that occur more than once in a cohort."""

from collections.abc import Iterator
from math import isnan

from fedrad.client.cohort.copies import Copy
from fedrad.client.cohort.evidence import Evidence

from .check import Check, CheckFinding


def _names(subject: Evidence, copy: Copy) -> tuple[str, str]:
    return subject.rows[copy.first].name, subject.rows[copy.second].name


def _same_labels(subject: Evidence, copy: Copy) -> bool:
    one, two = subject.rows[copy.first].labels, subject.rows[copy.second].labels
    return all(a == b or isnan(a) or isnan(b) for a, b in zip(one, two, strict=True))


class DuplicateImages(Check[Evidence]):
    """The same image twice for one patient."""

    name = "duplicate images"
    problem = "An image that is there twice counts twice and narrows intervals that it should not."
    remedy = "Keep one of each pair. Of equal pixels fedrad uses the first only."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding for equal pixels, one for copies that were saved again or resized."""
        within_patient = [
            copy
            for copy in subject.copies
            if subject.patients[copy.first] == subject.patients[copy.second]
        ]
        for exact, what in ((True, "equal pixels"), (False, "the same picture, saved again")):
            pairs = [_names(subject, copy) for copy in within_patient if copy.exact is exact]
            if pairs:
                yield CheckFinding(f"{len(pairs)} pairs of files of one patient: {what}", pairs)


class SameImageOfTwoPatients(Check[Evidence]):
    """The same image under two patient numbers."""

    name = "one patient under two numbers"
    problem = (
        "The same image under two patient numbers can be trained on and tested on: the test then "
        "measures memory."
    )
    remedy = (
        "Find out whose image it is. Give one patient one number, or remove the image from the "
        "wrong patient. Of equal pixels fedrad uses the first only; copies are not set aside."
    )

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding for all copies across patients."""
        pairs = [
            copy
            for copy in subject.copies
            if subject.patients[copy.first] != subject.patients[copy.second]
        ]
        if pairs:
            exact = sum(copy.exact for copy in pairs)
            yield CheckFinding(
                f"{len(pairs)} images stand under two patient numbers ({exact} with equal pixels, "
                f"{len(pairs) - exact} saved again or resized)",
                [_names(subject, copy) for copy in pairs],
            )


class ContradictingLabels(Check[Evidence]):
    """The same image with two outcomes."""

    name = "one image with two labels"
    problem = (
        "An image that is both with and without the outcome teaches nothing, and tests wrongly."
    )
    remedy = (
        "Correct the outcome. Until then fedrad sets both aside where the pixels are equal, and "
        "counts them among the files set aside."
    )

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding for all copies whose known outcomes differ."""
        pairs = [copy for copy in subject.copies if not _same_labels(subject, copy)]
        if pairs:
            exact = sum(copy.exact for copy in pairs)
            yield CheckFinding(
                f"{len(pairs)} images have two labels ({exact} with equal pixels)",
                [_names(subject, copy) for copy in pairs],
            )
