"""Images that are unlike those of any hospital are named, however usual they are at their own."""

from dataclasses import dataclass, field

import pytest

from fedrad.client.cohort.checks.images import GreyScales, Outliers
from fedrad.client.images import Reading, Tags


@dataclass
class Row:
    name: str


@dataclass
class Cohort:
    """What these checks look at of an `Evidence`."""

    readings: list[Reading]
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self):
        self.rows = [Row(f"{n}.dcm") for n in range(len(self.readings))]


def reading(brightness=0.55, contrast=0.2, span=float("nan"), rows=100):
    tags = Tags(rows=rows, columns=80, bits=16)
    return Reading("x", tags=tags, brightness=brightness, contrast=contrast, span=span)


@pytest.mark.parametrize("count", [4, 40])
@pytest.mark.parametrize(
    ("what", "value"),
    [("brightness", 0.25), ("brightness", 0.8), ("contrast", 0.08), ("contrast", 0.35)],
)
def test_a_site_all_of_whose_images_are_dark_or_flat_is_not_usual(count, what, value):
    cohort = Cohort([reading(**{what: value}) for _ in range(count)])
    (finding,) = Outliers().findings(cohort)
    assert f"as a whole have a {what}" in finding.text


def test_a_single_black_image_of_a_small_site_is_named():
    cohort = Cohort([reading(), reading(brightness=0.05), reading(contrast=0.03)])
    dark, flat = Outliers().findings(cohort)
    assert (dark.files, flat.files) == ([("1.dcm",)], [("2.dcm",)])


@pytest.mark.parametrize("count", [4, 40])
def test_the_ranges_of_four_real_hospitals_are_usual(count):
    for brightness, contrast in ((0.49, 0.14), (0.55, 0.22), (0.62, 0.27)):
        cohort = Cohort([reading(brightness, contrast) for _ in range(count)])
        assert list(Outliers().findings(cohort)) == []


def test_images_of_one_kind_with_another_grey_scale_are_named():
    spans = [3000, 4000, 3500, 3800, 3900, 240]
    cohort = Cohort([reading(span=span) for span in spans] + [reading(span=200, rows=90)])
    (finding,) = GreyScales().findings(cohort)
    assert finding.files == [("5.dcm",)]
    assert list(GreyScales().findings(Cohort([reading(span=s) for s in (1500, *spans[:5])]))) == []
