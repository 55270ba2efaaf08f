"""A node runs what its site installed, and nothing that a bundle brings."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.supernode import start_client_internal
from flwr.supernode.runtime import run_clientapp
from hypothesis import given
from hypothesis import strategies as st
from support.hospital import write_site
from support.paths import TESTS

from fedrad.client.node import executor as node
from fedrad.client.node import supernode
from fedrad.client.node.supernode import FlowerMovedError, check_part
from fedrad.deploy.coordinator import superlink
from fedrad.flower.bundles import BundleNotApprovedError, approve
from fedrad.flower.processes import BUNDLE

PROJECT = BUNDLE.read_text()


def bundle(folder: Path, project: str = PROJECT, **files: str) -> bytes:
    """A bundle as Flower builds it."""
    (folder / "pyproject.toml").write_text(project)
    for name, text in files.items():
        (folder / name.replace("_py", ".py")).write_text(text)
    return build_fab_from_disk(folder)


def test_fedrads_own_bundle_is_approved(tmp_path):
    approve(bundle(tmp_path))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"evil_py": "open('/tmp/x', 'w')"}, "files that fedrad's does not"),
        ({"project": PROJECT.replace("fedrad.client.app", "os.path")}, "other apps"),
        ({"project": PROJECT.replace("fedrad.server.app", "evil.app")}, "other apps"),
        ({"project": PROJECT.replace("dependencies = []", 'dependencies = ["evil"]')}, "packages"),
        ({"project": PROJECT.replace("Runs the", "x" * 70_000)}, "larger than"),
        ({"project": PROJECT.replace('"fedrad-bundle"', '"evil"')}, "another name"),
        (
            {"project": PROJECT.replace('publisher = "fedrad"', 'publisher = "evil"')},
            "another name",
        ),
    ],
)
def test_any_other_bundle_is_refused(tmp_path, change, why):
    with pytest.raises(BundleNotApprovedError, match=why):
        approve(bundle(tmp_path, **change))


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleNotApprovedError, match="cannot be read"):
        approve(b"nothing")
    twice = BytesIO()
    with zipfile.ZipFile(twice, "w") as file:
        file.writestr("pyproject.toml", PROJECT)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("pyproject.toml", PROJECT.replace("fedrad.client.app", "evil"))
    with pytest.raises(BundleNotApprovedError, match="another form"):
        approve(twice.getvalue())


@given(st.binary(max_size=300), st.integers(0, 2**32))
def test_whatever_an_archive_holds_it_is_refused_in_the_same_words(noise, at):
    """A bundle that was damaged anywhere, and a project file of any content."""
    archives = []
    for text in (noise, b"tool = 1", b"[tool.flwr.app]"):
        archive = BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("pyproject.toml", text)
        whole = archive.getvalue()
        archives += [whole, whole[: at % len(whole)]]
    for content in (*archives, noise):
        with pytest.raises(BundleNotApprovedError):
            approve(content)


def test_the_guard_stands_before_anything_is_unpacked(tmp_path, monkeypatch):
    unpacked = []
    monkeypatch.setattr(
        run_clientapp, "install_from_fab", lambda content, skip_prompt: unpacked.append(content)
    )
    node.guard()
    with pytest.raises(BundleNotApprovedError):
        run_clientapp.install_from_fab(bundle(tmp_path, evil_py=""), skip_prompt=True)
    assert not unpacked
    (tmp_path / "evil.py").unlink()
    run_clientapp.install_from_fab(bundle(tmp_path), skip_prompt=True)
    assert len(unpacked) == 1


def test_what_cannot_be_unpacked_leaves_without_its_path(tmp_path, monkeypatch):
    def full(content, skip_prompt):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(run_clientapp, "install_from_fab", full)
    node.guard()
    with pytest.raises(BundleNotApprovedError) as error:
        run_clientapp.install_from_fab(bundle(tmp_path), skip_prompt=True)
    assert str(tmp_path) not in str(error.value)
    assert error.value.__suppress_context__


def test_the_parts_of_flower_that_are_replaced_are_where_they_were():
    """Pinned flwr: where this fails, client/node needs another look."""
    for line in supernode.REPLACED:
        check_part(start_client_internal.start_client_internal, line)
    for name, line in superlink.REPLACED.items():
        check_part(getattr(superlink.flower_superlink, name), line)
    check_part(start_client_internal._push_messages, "time.sleep(0.5)")
    for line in node.REPLACED:
        check_part(run_clientapp.run_clientapp, line)
    check_part(start_client_internal._pull_and_store_message, supernode.SETTINGS_READ)


class Ended(Exception):
    """Where Flower's own handler would end the process."""


@pytest.fixture
def ending(monkeypatch):
    """A node's loop between Flower's parts, which say that nothing came, or one message."""
    parts = ("_pull_and_store_message", "_push_messages", "register_signal_handlers")
    came = []

    def at_once(number, frame):
        raise Ended(number)

    def register(**given):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, at_once)

    doubles = (lambda **given: came.pop() if came else None, lambda **given: None, register)
    for name, double in zip(parts, doubles, strict=True):
        monkeypatch.setattr(start_client_internal, name, double)
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    ending = supernode._Ending()
    ending.came = came
    ending.register()
    yield ending
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


def test_a_node_with_nothing_in_hand_ends_at_once(ending):
    assert ending.pull() is None
    with pytest.raises(Ended):
        signal.raise_signal(signal.SIGTERM)


def test_a_node_ends_when_the_message_in_hand_is_answered_and_takes_no_other(ending):
    ending.came += [7, 8]
    assert ending.pull() == 8
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Ended):
        ending.push()
    assert ending.came == [7]


def test_a_second_word_or_ctrl_c_ends_a_node_whatever_is_in_hand(ending):
    for number in (signal.SIGTERM, signal.SIGINT):
        ending.came.append(7)
        ending.pull()
        signal.raise_signal(signal.SIGTERM) if not ending.wanted else None
        with pytest.raises(Ended):
            signal.raise_signal(number)


def test_a_node_does_not_start_where_a_part_has_moved(monkeypatch):
    monkeypatch.setattr(run_clientapp, "run_clientapp", shutil.copy)
    with pytest.raises(FlowerMovedError, match="install the flwr of fedrad's constraints"):
        node.guard()


VISIT = """
import sys
from pathlib import Path
from fedrad.client.node import executor
executor.import_what_visits_need()
before = set(sys.modules)
from support.hospital import EXPERIMENT
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import RoundRequest
from fedrad.models.weights import load_base
from fedrad.server.rounds.global_model import GlobalModel
experiment = parse_experiment(EXPERIMENT)
base = load_base(experiment.model, 1, seed=3, dropout=experiment.recipe.dropout)
request = GlobalModel(experiment, base).broadcast("all", 0).full
folder = Path(sys.argv[1])
site = Participant(SiteData(open_site(folder, name="a", state=folder / "state"), experiment))
site.round(RoundRequest(round=0, manifest=request[0]), request[1])
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_a_visit_imports_nothing_that_takes_time(tmp_path):
    """What its parent lacks, each child of the executor would import anew."""
    write_site(tmp_path / "a", 20, seed=1)
    ended = subprocess.run(
        [sys.executable, "-c", VISIT, str(tmp_path / "a")],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    new = set(ended.stdout.splitlines()[-1].split())
    heavy = {"torch", "torchvision", "torchxrayvision", "monai", "sklearn", "scipy", "pydicom"}
    assert "fedrad" in new, "the test's own imports"
    assert not new & heavy


GIVES_UP = """
import threading, time
from fedrad.client.node import supernode
def give_up():
    threading.Thread(target=time.sleep, args=(60,)).start()
    END
supernode.flower_supernode = give_up
supernode.main()
"""


@pytest.mark.parametrize("end", ["raise ConnectionError('another certificate')", "return"])
def test_a_node_that_gives_up_ends_so_that_it_is_started_again(end):
    """After a certificate that is not the coordinator's, Flower's main thread ends alone: on its
    first connection with an exception, later with a line of its log."""
    ended = subprocess.run(
        [sys.executable, "-c", GIVES_UP.replace("END", end)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 1
    assert ("ConnectionError" in ended.stderr) == end.startswith("raise")
