"""The columns of the cohort table that experiments may use: a closed list of the site."""

from collections.abc import Sequence

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.names import folded


def check_columns(site: Site, experiment: Experiment) -> None:
    """Check that the site admits the columns that an experiment uses as outcomes and for groups.

    The names are equal if they differ only in case, blanks, `-` and `_`, as in the cohort table.

    Raises
    ------
    SiteProblem
        "policy", with the line to write: if `policy.columns` lacks one of them, or if a site that
        has joined a coordinator names no columns.
    """
    asked, admitted = columns_of(experiment), site.settings.policy.columns
    if admitted is None:
        if site.joined:
            raise SiteProblem(
                "policy",
                f"policy.columns is not set, and {experiment.name!r} asks for {asked}. Name the "
                "columns that experiments may use in site.toml, under [policy]; for this one: "
                f"{columns_line(asked)}",
            )
        return
    known = {folded(column) for column in admitted}
    if closed := [column for column in asked if folded(column) not in known]:
        raise SiteProblem(
            "policy",
            f"{experiment.name!r} asks for the columns {closed}: policy.columns admits "
            f"{list(admitted)}. To admit them, write in site.toml, under [policy]: "
            f"{columns_line([*admitted, *closed])}",
        )


def columns_of(experiment: Experiment) -> list[str]:
    """The columns that an experiment uses, each once: its outcomes, then those of its groups."""
    first: dict[str, str] = {}
    for column in (*experiment.outcomes, *experiment.evaluation.subgroups):
        first.setdefault(folded(column), column)
    return list(first.values())


def columns_line(columns: Sequence[str]) -> str:
    """The line of `[policy]` in site.toml that admits these columns."""
    named = ", ".join(f'"{column}"' for column in columns)
    return f"columns = [{named}]"
