"""A resumed run gives the same figures as an uninterrupted one, bit for bit, whatever ended it."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from support.hospital import EXPERIMENT, write_site

from fedrad.client.app import app as client_app
from fedrad.deploy.local.simulation import prepare
from fedrad.flower.grid import InProcessGrid
from fedrad.server.experiment import run_experiment
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.results.summary import read_summary
from fedrad.server.rounds import checkpoint
from fedrad.server.rounds.spool import Spool

TEXT = EXPERIMENT.replace("rounds = 2", "rounds = 3")
ENCODED = TEXT.replace("rounds = 3", 'rounds = 3\nencoding = "int8"\nstrategy = "fedavgm"').replace(
    "[recipe]", '[recipe]\nmoments = "keep"\nbatchnorm = "local"'
)


class Killed(BaseException):
    """Ends a run without any cleanup, like SIGKILL."""


class Interrupted(InProcessGrid):
    """Ends the run before it receives the n-th answer to one type of message."""

    message_type, answer, error = "", 0, Killed

    def pull_messages(self, message_ids):
        message_ids = list(message_ids)
        kind = self._waiting[message_ids[0]].metadata.message_type
        if kind == self.message_type:
            self.answer -= 1
            if self.answer == 0:
                raise self.error
        return super().pull_messages(message_ids)


class Coordinator:
    """Runs an experiment over two sites, any number of times."""

    def __init__(self, root: Path, text: str) -> None:
        self.root, self.text, self.out = root, text, root / "out"
        sites = {n: root / n for n in "ab"}
        for seed, folder in enumerate(sites.values()):
            write_site(folder, 30, seed=seed)
        file = root / "experiment.toml"
        file.write_text(text)
        self.nodes = prepare(file, sites, self.out).nodes

    def run(self, *, resume=False, grid=InProcessGrid, text=None, **script):
        grid = grid(client_app, self.nodes, {"experiment": self.text})
        for name, value in script.items():
            setattr(grid, name, value)
        return run_experiment(grid, text or self.text, self.out, wait_seconds=0, resume=resume)

    def answered(self) -> list[str]:
        """Kinds of the messages that site a has sent, from its ledger."""
        lines = (self.out / "sites/a/ledger.jsonl").read_text().splitlines()
        return [json.loads(line)["message"]["kind"] for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def of(text: str) -> Path:
        if text not in folders:
            one = Coordinator(tmp_path_factory.mktemp("uninterrupted"), text)
            one.run()
            folders[text] = one.out
        return folders[text]

    return of


def assert_same(one: Path, other: Path) -> None:
    a, b = read_summary(one), read_summary(other)
    assert a.status == b.status == "completed"
    assert a.cells == b.cells
    assert a.overall == b.overall
    assert [r.stage for r in a.rounds] == [r.stage for r in b.rounds]
    for x, y in zip(a.rounds, b.rounds, strict=True):
        assert {s: (r.loss, r.auroc, r.status) for s, r in x.sites.items()} == {
            s: (r.loss, r.auroc, r.status) for s, r in y.sites.items()
        }
    models = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert models[0].keys() == models[1].keys()
    assert all(v.tobytes() == models[1][n].tobytes() for n, v in models[0].items())


@pytest.mark.parametrize(
    ("text", "message_type", "answer"),
    [
        pytest.param(TEXT, "train.round", 2, id="float32, first round"),
        pytest.param(TEXT, "train.baseline", 2, id="float32, local models"),
        pytest.param(TEXT, "evaluate.score", 3, id="float32, validation scores"),
        pytest.param(TEXT, "evaluate.score", 7, id="float32, validation scores of the best round"),
        pytest.param(TEXT, "evaluate.release", 1, id="float32, best round"),
        pytest.param(TEXT, "evaluate.release", 2, id="float32, thresholds"),
        pytest.param(ENCODED, "train.round", 1, id="int8, before the first answer"),
        pytest.param(ENCODED, "train.round", 6, id="int8, last round"),
    ],
)
def test_a_killed_coordinator_can_be_resumed(tmp_path, uninterrupted, text, message_type, answer):
    one = Coordinator(tmp_path, text)
    with pytest.raises(Killed):
        one.run(grid=Interrupted, message_type=message_type, answer=answer)
    done = one.answered().count("round")
    one.run(resume=True)
    assert_same(one.out, uninterrupted(text))
    assert one.answered().count("round") == max(done, 3), "no round was asked for twice"


def test_test_patients_are_scored_once_however_often_a_run_is_resumed(tmp_path, uninterrupted):
    one = Coordinator(tmp_path, TEXT)
    with pytest.raises(Killed):  # validation, of both; test, of the second
        one.run(grid=Interrupted, message_type="evaluate.release", answer=4)
    assert one.answered().count("release") == 2
    scored = one.answered().count("scored")
    one.run(resume=True)
    assert one.answered().count("release") == 2
    assert one.answered().count("scored") == scored, (
        "a site that has released is not asked to score again"
    )
    assert_same(one.out, uninterrupted(TEXT))


def test_a_run_killed_between_spool_and_checkpoint_averages_what_was_spooled(
    tmp_path, uninterrupted, monkeypatch
):
    one = Coordinator(tmp_path, TEXT)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.Checkpoint, "save", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            one.run()
    assert len(list((one.out / "checkpoint/spool").rglob("*.npy"))) == 2
    one.run(resume=True)
    assert one.answered().count("round") == 3
    assert_same(one.out, uninterrupted(TEXT))
    assert not list((one.out / "checkpoint/spool").rglob("*.npy"))


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, uninterrupted, monkeypatch):
    one = Coordinator(tmp_path, TEXT)
    real, count = checkpoint.save_file, []

    def full(tensors, path):
        count.append(path)
        if len(count) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", full)
        with pytest.raises(ExperimentFailed, match=r"No space left.*fedrad resume"):
            one.run()
    assert not list((one.out / "checkpoint").glob("*.partial"))
    summary = read_summary(one.out)
    assert summary.status == "failed"
    assert "No space left" in summary.why
    one.run(resume=True)
    assert_same(one.out, uninterrupted(TEXT))


def test_a_spool_for_another_global_model_is_not_used(tmp_path):
    import numpy as np

    from fedrad.server.results.summary import SiteRound

    spool = Spool(tmp_path, 3, "one")
    spool.add("a", np.ones(4, np.float32), 2.0, SiteRound(status="ok", loss=0.5))
    again = Spool(tmp_path, 3, "one").updates["a"]
    assert (again.weight, again.site.loss, list(again.values)) == (2.0, 0.5, [1, 1, 1, 1])
    assert not Spool(tmp_path, 3, "other").updates
    assert not Spool(tmp_path, 4, "one").updates
    (tmp_path / "round-00003" / "a.json").unlink()  # a file whose note was not written
    assert not Spool(tmp_path, 3, "one").updates


def test_a_note_of_the_spool_that_cannot_be_read_is_one_clear_error(tmp_path, uninterrupted):
    one = Coordinator(tmp_path, TEXT)
    with pytest.raises(KeyboardInterrupt):
        one.run(grid=Interrupted, message_type="train.round", answer=4, error=KeyboardInterrupt)
    (note,) = (one.out / "checkpoint" / "spool").glob("*/*.json")
    note.write_text('{"start": "')
    with pytest.raises(ExperimentFailed, match=rf"{note.name}: cannot be read .*remove it, then"):
        one.run(resume=True)
    assert "cannot be read" in read_summary(one.out).why
    note.unlink()
    one.run(resume=True)
    assert_same(one.out, uninterrupted(TEXT))


def test_ctrl_c_leaves_a_stopped_experiment_that_can_be_resumed(tmp_path, uninterrupted):
    one = Coordinator(tmp_path, TEXT)
    with pytest.raises(KeyboardInterrupt):
        one.run(grid=Interrupted, message_type="train.round", answer=4, error=KeyboardInterrupt)
    summary = read_summary(one.out)
    assert (summary.status, len(summary.rounds)) == ("stopped", 1)
    saved = checkpoint.Checkpoint(one.out / "checkpoint").progress_head()  # `fedrad status`
    assert (saved.status, saved.why) == ("stopped", "stopped by the coordinator")
    one.run(resume=True)
    assert_same(one.out, uninterrupted(TEXT))


def test_what_cannot_be_resumed_is_refused(tmp_path, uninterrupted):
    done = uninterrupted(TEXT)
    grid = InProcessGrid(client_app, [], {})
    with pytest.raises(ExperimentFailed, match="is completed"):
        run_experiment(grid, TEXT, done, wait_seconds=0, resume=True)
    with pytest.raises(ExperimentFailed, match="holds no experiment of this text"):
        run_experiment(grid, ENCODED, done, wait_seconds=0, resume=True)
    with pytest.raises(ExperimentFailed, match="holds no experiment"):
        run_experiment(grid, TEXT, tmp_path / "none", wait_seconds=0, resume=True)
    assert not (tmp_path / "none").exists()
    with (
        checkpoint.Checkpoint(done / "checkpoint").lock(),
        pytest.raises(ExperimentFailed, match="another run is at work"),
    ):
        run_experiment(grid, TEXT, done, wait_seconds=0, resume=True)


def test_a_site_that_lost_its_stored_model_is_sent_the_model_in_full(tmp_path):
    text = TEXT.replace("rounds = 3", 'rounds = 3\nencoding = "int8"')
    one = Coordinator(tmp_path, text)
    with pytest.raises(Killed):
        one.run(grid=Interrupted, message_type="train.round", answer=5)
    (stored,) = (one.out / "sites/b/experiments").glob("*/exchange")
    shutil.rmtree(stored)
    summary = one.run(resume=True)
    assert [r.sites["b"].status for r in summary.rounds] == ["ok", "ok", "ok"]
    first, second, third = (r.bytes_to_sites for r in summary.rounds)
    assert third > 2 * second, "one site was sent the third round's model in full"
    assert second == pytest.approx(first, rel=0.01)


@pytest.mark.parametrize("encoding", ["float16", "bfloat16", "int8"])
def test_an_encoding_reduces_bytes_and_changes_losses_little(tmp_path, uninterrupted, encoding):
    one = Coordinator(tmp_path, TEXT.replace("rounds = 3", f'rounds = 3\nencoding = "{encoding}"'))
    a, b = one.run(), read_summary(uninterrupted(TEXT))
    fewer = {"float16": 1.8, "bfloat16": 1.8, "int8": 3.0}[encoding]
    for x, y in zip(a.rounds, b.rounds, strict=True):
        assert y.bytes_from_sites > fewer * x.bytes_from_sites
        assert y.bytes_to_sites > fewer * x.bytes_to_sites
    losses = [[r.sites[s].loss for r in c.rounds for s in "ab"] for c in (a, b)]
    assert losses[0][:4] == pytest.approx(losses[1][:4], abs=0.05)
