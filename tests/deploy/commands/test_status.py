"""The coordinator sees the progress of an experiment, stops it, and resumes it."""

from pathlib import Path

import pytest
from rich.console import Console
from support.hospital import EXPERIMENT, write_site
from typer.testing import CliRunner

from fedrad.deploy.commands.main import app
from fedrad.deploy.commands.status import state, watch
from fedrad.deploy.local.simulation import load_simulation, prepare, simulate
from fedrad.deploy.start.notes import SIMULATION, SUPERLINK
from fedrad.server.federation.failure import Stopped
from fedrad.server.federation.records import Records
from fedrad.server.results.summary import read_summary
from fedrad.server.rounds.checkpoint import Checkpoint
from fedrad.server.rounds.open_round import OpenRound
from fedrad.server.rounds.run_state import ProgressError, RunState


def shown(folder: Path) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(state(folder))
    return console.export_text()


@pytest.fixture
def stopped(tmp_path, monkeypatch) -> Path:
    """A simulation of four rounds that was asked to stop in its second."""
    text = EXPERIMENT.replace("rounds = 2", "rounds = 4") + "local_baseline = false\n"
    (tmp_path / "experiment.toml").write_text(text)
    sites = {n: write_site(tmp_path / n, 30, seed=i) for i, n in enumerate("ab")}
    simulation = prepare(tmp_path / "experiment.toml", sites, tmp_path / "out")
    take = OpenRound._take

    def asks_to_stop(self, site, answer):
        if self.number == 1 and site == "a":
            assert "running" in shown(tmp_path / "out")
            result = CliRunner().invoke(app, ["stop", str(tmp_path / "out")])
            assert "what sites have answered is kept" in result.output
        return take(self, site, answer)

    monkeypatch.setattr(OpenRound, "_take", asks_to_stop)
    with pytest.raises(Stopped):
        simulate(simulation)
    monkeypatch.setattr(OpenRound, "_take", take)
    return tmp_path / "out"


def test_a_stopped_experiment_is_shown_and_resumed(stopped):
    assert read_summary(stopped).status == "stopped"
    text = shown(stopped)
    assert "not running, 2 rounds are done; `fedrad resume` goes on" in text
    assert "Round 3 of 4, stage all" in text
    assert "to the end of training" in text
    simulation, engine = load_simulation(stopped)
    assert engine == "in-process"
    assert simulate(simulation).status == "completed"
    text = shown(stopped)
    assert "completed" in text
    assert "Round 4 of 4" in text
    assert text.count("█") > 1, "curves"
    assert max(map(len, text.splitlines())) <= 80
    watch(stopped, once=False)  # nothing runs: shows it and ends
    result = CliRunner().invoke(app, ["stop", str(stopped)])
    assert result.exit_code == 2
    assert "no run is at work" in result.output


def test_what_a_round_waits_for_is_shown_while_it_waits(stopped):
    records = Records(stopped / "records.sqlite")
    records.add(0, "", {}, waiting="round 2: 1 sound updates, the quorum is 2 (b: lost)")
    records.close()
    with RunState(stopped / "checkpoint").lock():
        assert "Waiting: round 2: 1 sound updates" in shown(stopped)
    assert "Waiting" not in shown(stopped)


@pytest.mark.parametrize("command", ["status", "resume", "stop"])
def test_a_folder_without_an_experiment_is_refused(tmp_path, command):
    result = CliRunner().invoke(app, [command, str(tmp_path)])
    assert result.exit_code == 2
    assert str(tmp_path) in result.output


@pytest.mark.parametrize("content", ["", "{}", '{"status": "fail', "[]"])
def test_a_damaged_progress_is_one_error_that_says_what_to_do(tmp_path, content):
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    Records(tmp_path / "records.sqlite").close()
    (tmp_path / SIMULATION).parent.mkdir(parents=True)
    (tmp_path / SIMULATION).write_text("{}")
    file = tmp_path / "checkpoint" / "progress.json"
    file.parent.mkdir()
    file.write_text(content)
    for command in ("status", "resume"):
        result = CliRunner().invoke(app, [command, str(tmp_path)])
        assert result.exit_code == 2, result.exception
        assert f"{file}: cannot be read (" in result.output
        assert "restore it from a backup, or run the experiment into a new folder" in result.output
    with pytest.raises(ProgressError, match="cannot be read"):
        Checkpoint(tmp_path / "checkpoint").load()
    assert file.read_text() == content, "left as it was"


def test_how_a_simulation_was_run_is_kept_on_the_sites_side(stopped):
    assert SIMULATION.parts[0] == "sites"
    for file in stopped.rglob("*"):
        if file.is_file() and "sites" not in file.relative_to(stopped).parts:
            assert str(stopped.parent / "a").encode() not in file.read_bytes(), file


@pytest.mark.parametrize("note", [SIMULATION, SUPERLINK])
@pytest.mark.parametrize("content", ["", '{"engine": "in-process"', "{}"])
def test_a_damaged_note_of_how_a_run_was_started_is_one_clear_error(tmp_path, note, content):
    file = tmp_path / note
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    result = CliRunner().invoke(app, ["resume", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{file}: cannot be read (" in result.output.replace("\n", "")
