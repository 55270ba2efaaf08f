"""Outcomes and groups are columns of a closed list, whatever an experiment calls them."""

import csv

import pytest
from support.hospital import EXPERIMENT, write_cohort, write_site

from fedrad.client.cohort import read_cohort
from fedrad.client.policy.columns import check_columns
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import parse_experiment


def site_with(tmp_path, policy: str = "", *, joined: bool = False) -> Site:
    folder = write_site(tmp_path / "a", 12, seed=1)
    settings = folder / "site.toml"
    settings.write_text(settings.read_text() + policy + "\n")
    site = open_site(folder, state=tmp_path / "state")
    if joined:
        site.state.mkdir()
        (site.state / "membership.json").write_text("{}")
    return site


def asking(outcome: str = "label", groups: str = ""):
    text = EXPERIMENT.replace('"label"', f'"{outcome}"')
    return parse_experiment(text + (f"subgroups = {{ {groups} }}\n" if groups else ""))


def test_a_joined_site_without_a_list_refuses_and_says_the_line_to_write(tmp_path):
    site = site_with(tmp_path, joined=True)
    with pytest.raises(SiteProblem, match=r'columns = \["label", "sex"\]') as problem:
        check_columns(site, asking(groups='sex = ["F", "M"]'))
    assert problem.value.reason == "policy"


def test_a_simulation_needs_no_list_but_keeps_to_one(tmp_path):
    check_columns(site_with(tmp_path / "without"), asking("another"))
    site = site_with(tmp_path / "with", 'columns = ["label"]')
    check_columns(site, asking())
    with pytest.raises(SiteProblem, match=r'columns = \["label", "another"\]'):
        check_columns(site, asking("another"))


@pytest.mark.parametrize("spelling", ["label", "Label", "LABEL"])
def test_an_experiment_may_spell_an_admitted_column_otherwise(tmp_path, spelling):
    check_columns(site_with(tmp_path, 'columns = ["label"]', joined=True), asking(spelling))


@pytest.mark.parametrize("column", ["patient_id", "split", "sex", "labels"])
@pytest.mark.parametrize("groups", [False, True])
def test_a_column_that_is_not_on_the_list_is_refused_as_outcome_and_for_groups(
    tmp_path, column, groups
):
    site = site_with(tmp_path, 'columns = ["label"]', joined=True)
    experiment = asking(groups=f"{column} = [1.0]") if groups else asking(column)
    with pytest.raises(SiteProblem, match=r"policy\.columns admits") as problem:
        check_columns(site, experiment)
    assert problem.value.reason == "policy"


def test_groups_are_read_from_a_column_that_the_table_spells_otherwise(tmp_path):
    site = site_with(tmp_path)
    table = list(csv.DictReader(site.cohort.open()))
    write_cohort(site.folder, [{**row, "Birth Weight": i} for i, row in enumerate(table)])
    units = read_cohort(site, asking(groups="birth_weight = [6.0]")).units
    assert [unit.values["birth_weight"] for unit in units] == [str(i) for i in range(12)]
    write_cohort(site.folder, [{**row, "Birth Weight": 1, "birth_weight": 2} for row in table])
    with pytest.raises(SiteProblem, match="has the column 'birth_weight' 2 times"):
        read_cohort(site, asking(groups="birth_weight = [6.0]"))
