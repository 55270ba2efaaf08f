"""`fedrad sites`: what the coordinator knows of each site."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.gate import Hospital, admitted
from typer.testing import CliRunner

from fedrad.deploy.commands.main import app
from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.deploy.coordinator.seen import Seen, SeenFile, SeenSite
from fedrad.system.release import release, short_release

WHEN = datetime(2026, 11, 28, 11, 30, tzinfo=UTC)


@pytest.fixture
def coordinator(tmp_path):
    here = Coordinator(tmp_path / "coordinator")
    here.set_up("localhost:8000", listen="127.0.0.1", names=[], own=None)
    hospitals = [
        Hospital(name, ec.derive_private_key(number, ec.SECP384R1()), node=number)
        for number, name in enumerate(("hospital-a", "hospital-b", "hospital-c"), start=5)
    ]
    here.members_file.write_text(admitted(*hospitals).model_dump_json())
    return here


def listed(coordinator: Coordinator) -> str:
    command = ["sites", "--coordinator", str(coordinator.folder)]
    ended = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_each_site_is_listed_with_its_release_its_clock_and_when_it_was_heard(coordinator):
    other = "0.1.0+sha256:" + "ab" * 32
    sites = {
        "hospital-a": SeenSite(at=WHEN, release=release(), clock=1.0),
        "hospital-b": SeenSite(at=WHEN, release=other, clock=-10_920.0, refused=True),
    }
    SeenFile(coordinator.folder).write(Seen(sites=sites))
    output = listed(coordinator)
    rows = {line.split()[1]: line for line in output.splitlines() if "admitted" in line}
    assert short_release(release()) in rows["hospital-a"]
    assert f"{WHEN.astimezone():%Y-%m-%d %H:%M}" in rows["hospital-a"]
    assert "0.1.0+sha256:abababababab" in rows["hospital-b"]
    assert "sha256" not in rows["hospital-c"], "never heard"
    (clock,) = [line for line in output.splitlines() if "clock" in line]
    assert clock.startswith("hospital-b: its clock is 3 h 2 min behind this machine's, and its")


def test_a_damaged_file_of_what_was_heard_does_not_hide_the_sites(coordinator):
    (coordinator.folder / "seen.json").write_text("{")
    assert "hospital-a" in listed(coordinator)


@pytest.mark.parametrize("stated", ["0.1[/x]", "[conceal]0.1[/conceal]"])
def test_a_site_states_a_release_and_not_how_the_list_is_drawn(coordinator, stated):
    seen = {"hospital-a": SeenSite(at=WHEN, release=stated, clock=0.0)}
    SeenFile(coordinator.folder).write(Seen(sites=seen))
    assert stated in listed(coordinator)
