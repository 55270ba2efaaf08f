"""Checks of images that occur more than once in a cohort."""

from collections.abc import Iterator, Sequence
from math import isnan

from fedrad.client.cohort.copies import Copy
from fedrad.client.cohort.evidence import Evidence

from .check import Check, CheckFinding


def _together(subject: Evidence, copies: Sequence[Copy]) -> list[tuple[str, ...]]:
    """The names of files that show the same image, together: all copies of an image are one group,
    also if only their copies were compared."""
    group_of: dict[int, list[int]] = {}
    for copy in copies:
        one, other = (group_of.setdefault(row, [row]) for row in (copy.first, copy.second))
        if one is not other:
            one += other
            group_of |= dict.fromkeys(other, one)
    groups = {id(group): group for group in group_of.values()}.values()
    return [tuple(subject.rows[row].name for row in sorted(group)) for group in groups]


def _same_labels(subject: Evidence, copy: Copy) -> bool:
    one, two = subject.rows[copy.first].labels, subject.rows[copy.second].labels
    return all(a == b or isnan(a) or isnan(b) for a, b in zip(one, two, strict=True))


class DuplicateImages(Check[Evidence]):
    """The same image twice for one patient."""

    name = "duplicate images"
    problem = "An image that is there twice counts twice and narrows intervals that it should not."
    remedy = "Keep one of each group. Of equal pixels fedrad uses the first only."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding for equal pixels, one for copies that were saved again or resized."""
        within_patient = [
            copy
            for copy in subject.copies
            if subject.patients[copy.first] == subject.patients[copy.second]
        ]
        for exact, what in ((True, "equal pixels"), (False, "the same picture, saved again")):
            groups = _together(subject, [copy for copy in within_patient if copy.exact is exact])
            if groups:
                yield CheckFinding(
                    f"{len(groups)} images of one patient are there more than once, in "
                    f"{sum(map(len, groups))} files: {what}",
                    groups,
                )


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
            groups = _together(subject, pairs)
            exact = sum(copy.exact for copy in pairs)
            yield CheckFinding(
                f"{len(groups)} images stand under two patient numbers, in "
                f"{sum(map(len, groups))} files ({exact} pairs with equal pixels, "
                f"{len(pairs) - exact} saved again or resized)",
                groups,
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
            groups = _together(subject, pairs)
            exact = sum(copy.exact for copy in pairs)
            yield CheckFinding(
                f"{len(groups)} images have two labels, in {sum(map(len, groups))} files ({exact} "
                f"pairs with equal pixels, {len(pairs) - exact} saved again or resized)",
                groups,
            )
