"""`fedrad run` and `resume` where no SuperLink of `fedrad serve` can be reached."""

import json
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT
from typer.testing import CliRunner

from fedrad.deploy.commands.main import app
from fedrad.deploy.refused import Refused
from fedrad.deploy.start.deployed import resume_deployed, run_deployed
from fedrad.deploy.start.notes import SUPERLINK


def test_a_run_without_a_coordinator_that_serves_says_what_to_start_and_makes_no_folder(tmp_path):
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT)
    with pytest.raises(Refused, match="no `fedrad serve` runs with this folder; start it"):
        run_deployed(file, tmp_path / "out", tmp_path / "superlink.sock", tmp_path / "members.json")
    assert not (tmp_path / "out" / SUPERLINK).exists()


def test_an_experiment_over_a_superlink_of_somebody_else_is_not_resumed(tmp_path):
    note = {"address": "127.0.0.1:9", "root_certificates": None, "weights": str(tmp_path)}
    (tmp_path / SUPERLINK).write_text(json.dumps(note))
    with pytest.raises(Refused, match="`fedrad serve` did not run, which is no longer possible"):
        resume_deployed(tmp_path)


def test_an_experiment_of_an_earlier_version_finds_the_socket_beside_the_list_of_members(tmp_path):
    members = tmp_path / "coordinator" / "members.json"
    note = {"address": "127.0.0.1:9", "root_certificates": None, "weights": str(tmp_path)}
    (tmp_path / SUPERLINK).write_text(json.dumps(note | {"members": str(members)}))
    with pytest.raises(Refused, match=rf"^{members.parent}: no `fedrad serve` runs"):
        resume_deployed(tmp_path)


@pytest.mark.parametrize("option", ["--superlink", "--root-certificates"])
def test_no_option_of_a_run_names_another_superlink(option, tmp_path: Path):
    command = ["run", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"), option, "x"]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 2
    assert "No such option" in ended.output
