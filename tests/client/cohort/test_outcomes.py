"""Columns that are nearly outcomes are named with what keeps them from being one."""

import pytest
from support.hospital import write_site

from fedrad.client.cohort import Pseudonyms, read_table
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site


@pytest.fixture
def folder(tmp_path):
    return write_site(tmp_path / "x", 8)


def table_of(folder, column, outcomes=None, **more):
    names = ["label", *more]
    columns = [column, *more.values()]
    rows = "".join(
        f"images/{k:04d}.png,P{k},{','.join(str(of(k)) for of in columns)}\n" for k in range(8)
    )
    (folder / "cohort.csv").write_text(f"file,patient_id,{','.join(names)}\n{rows}")
    return read_table(open_site(folder), outcomes, Pseudonyms.temporary())


@pytest.mark.parametrize(
    ("word", "words"),
    [
        (lambda k: ("no", "yes")[k % 2], r"label: line 2: 'no' \(all values: 'no' 4, 'yes' 4\)"),
        (lambda k: ("FALSE", "TRUE")[k % 2], "line 2: 'FALSE'"),
        (lambda k: -1 if k == 3 else k % 2, r"line 5: '-1' \(all values: '0' 4, '1' 3, '-1' 1\)"),
        (lambda k: "nan" if k == 3 else k % 2, "line 5: 'nan'"),
    ],
)
def test_a_table_without_an_outcome_names_the_nearest(folder, word, words):
    with pytest.raises(SiteProblem, match=words) as problem:
        table_of(folder, word)
    assert problem.value.reason == "outcome"
    with pytest.raises(
        SiteProblem, match=r"label = .*; allowed are 0, 1 and empty. All its values"
    ):
        table_of(folder, word, ["label"])


def test_a_column_with_one_wrong_cell_is_named_beside_the_outcomes(folder):
    table = table_of(folder, lambda k: k % 2, bpd=lambda k: 2 if k == 3 else k % 2)
    assert table.outcomes == ("label",)
    assert [str(column) for column in table.nearly_outcomes] == [
        "bpd: line 5: '2' (all values: '0' 4, '1' 3, '2' 1)"
    ]


@pytest.mark.parametrize(
    "values",
    [
        ("WAHR", "FALSCH"),
        ("SANT", "FALSKT"),
        ("VRAI", "FAUX"),
        ("Ja", "Nej"),
        ("1", "2", "2", "9"),
        ("0", "1", "NA", "NA", "NA", "NA", "NA", "NA"),
        ("0", "1", "9", "9", "-1", "-1", ".", "k.A."),
        ("1 = yes", "0 = no"),
        ("x", ""),
    ],
)
def test_outcomes_in_the_codes_of_other_programs_and_languages_are_named(folder, values):
    table = table_of(folder, lambda k: k % 2, bpd=lambda k: values[k % len(values)])
    assert table.outcomes == ("label",)
    assert [column.name for column in table.nearly_outcomes] == ["bpd"]


@pytest.mark.parametrize(
    "values", [range(500, 580, 10), range(-8, 0), "abcdefgh", ["9"] * 8, ["AP", "PA"] * 4]
)
def test_a_column_of_other_values_is_not_named(folder, values):
    table = table_of(folder, lambda k: k % 2, grams=lambda k: values[k])
    assert not table.nearly_outcomes
