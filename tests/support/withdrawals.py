"""A hospital of 30 patients, and patients of it who withdraw."""

from pathlib import Path

from support.hospital import SHORT, write_site
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import Experiment, parse_experiment

ONE_SPLIT = parse_experiment(SHORT)


def hospital(tmp_path: Path) -> Site:
    """A hospital whose state folder lies beside it."""
    return open_site(write_site(tmp_path / "a", 30, seed=1), state=tmp_path / "state")


def number_of(index: int) -> str:
    return f"CANARY-1-{index:04d}"


def withdraw(site: Site, *arguments: str, status: int = 0) -> str:
    options = ["--yes", "--by", "Dr Data", "--state", str(site.state)]
    ended = CliRunner().invoke(app, ["withdraw", str(site.folder), *arguments, *options])
    assert ended.exit_code == status, ended.output
    return ended.output


def in_part(data: SiteData, part: str) -> tuple[str, str]:
    """Number and pseudonym of the first patient of a part."""
    unit = data.cohort.units[data.rows[part][0]]
    return number_of(int(unit.file.stem)), unit.key


def participant(site: Site, experiment: Experiment) -> Participant:
    return Participant(SiteData(site, experiment))
