"""Whatever goes wrong at a site, no path, name or value leaves in an exception's text."""

import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.runtime import run_clientapp
from support.hospital import EXPERIMENT, write_site

from fedrad.client import app as site_app
from fedrad.client.node import executor as node
from fedrad.client.node import supernode
from fedrad.client.node.outgoing_errors import UNSAID
from fedrad.client.policy.ledger import Ledger
from fedrad.client.problems import SiteProblem
from fedrad.exchange.messages import READY, ReadyRequest, from_record, to_record
from fedrad.exchange.messages import Refusal as Refused
from fedrad.flower.bundles import REFUSALS
from fedrad.flower.processes import BUNDLE

SECRET = "/hospital/CANARY-0007/chest.dcm: 37 years"
PARTS = (
    "install_from_fab",
    "push_message",
    "push_task_output",
    "pull_task_input",
    "get_load_client_app_fn",
    "get_project_dir",
    "HeartbeatSender",
    "RuntimeHttpClient",
    "register_signal_handlers",
    "flwr_exit",
    "event",
)


class Site:
    """A node's client process without its network: Flower's own code, with what it sends kept."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = tmp_path / "state"
        self.bundle = build_fab_from_disk(_copied(tmp_path / "bundle"))
        self.sent: list[str] = []
        self.app: Any = site_app.app
        self._exits: list = []
        folder = str(write_site(tmp_path / "CANARY-site", 8))
        context = Context(
            run_id=1,
            node_id=1,
            node_config={"folder": folder, "state": str(self.state)},
            state=RecordDict(),
            run_config={"experiment": EXPERIMENT},
        )
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1
        message = Message(to_record(ReadyRequest(fedrad="0.1.0")), 1, READY.name)
        message.metadata.__dict__["_message_id"] = "1"
        run = SimpleNamespace(run_id=1, fab_id="fedrad/fedrad-bundle", fab_version="0.1.0")
        fake = {
            "install_from_fab": lambda content, skip_prompt: tmp_path,
            "push_message": lambda client, message, context: self.sent.append(_text(message)),
            "push_task_output": lambda client, context, sub_status, details: self.sent.append(
                details
            ),
            "pull_task_input": lambda client: (
                message,
                context,
                run,
                SimpleNamespace(content=self.bundle, hash_str="0"),
            ),
            "get_load_client_app_fn": lambda **_: lambda *_: self.app,
            "get_project_dir": lambda *_: tmp_path,
            "HeartbeatSender": lambda _: SimpleNamespace(
                start=lambda: None, stop=lambda: None, is_running=True
            ),
            "RuntimeHttpClient": SimpleNamespace(
                from_server_address=lambda **_: SimpleNamespace(close=lambda: None)
            ),
            "register_signal_handlers": lambda exit_handlers, **_: self._exits.extend(
                exit_handlers
            ),
            "flwr_exit": lambda **_: [end() for end in self._exits],
            "event": lambda *_: None,
        }
        assert fake.keys() == set(PARTS)
        for name, part in fake.items():
            monkeypatch.setattr(run_clientapp, name, part)
        monkeypatch.setattr(run_clientapp, "make_task_heartbeat_fn_http", lambda client: None)
        self.patch = monkeypatch

    def visit(self) -> list[str]:
        """All texts that the process sent."""
        node.guard()
        run_clientapp.run_clientapp("nowhere", "token", True, runtime_dependency_install=False)
        return self.sent


def _copied(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(BUNDLE.read_text())
    return folder


def _text(message: Message) -> str:
    if message.has_error():
        return f"{message.error.code}: {message.error.reason}"
    return from_record(message.content, Refused)[0].reason


def explode(*_, **__):
    raise OSError(28, "No space left on device", SECRET)


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


@pytest.mark.parametrize("stage", ["install_from_fab", "get_load_client_app_fn", "get_project_dir"])
def test_what_goes_wrong_before_the_app_leaves_as_a_sentence_of_the_list(site, stage):
    site.patch.setattr(run_clientapp, stage, explode)
    sent = site.visit()
    assert sent
    said = REFUSALS[-1] if stage == "install_from_fab" else UNSAID
    assert sent == [f"{ErrorCode.CLIENT_APP_RAISED_EXCEPTION}: {said}", said]
    (entry,) = Ledger(site.state / "ledger.jsonl").entries()
    assert entry["message"] == {"kind": "error", "sentence": said}


def test_an_app_that_cannot_be_loaded_is_told_without_why(site):
    def fail(**_):
        raise LoadClientAppError(SECRET)

    site.patch.setattr(run_clientapp, "get_load_client_app_fn", fail)
    assert site.visit()[0] == f"{ErrorCode.LOAD_CLIENT_APP_EXCEPTION}: {UNSAID}"


def test_where_there_is_no_message_yet_nothing_but_the_sentence_is_said(site):
    site.patch.setattr(run_clientapp, "pull_task_input", explode)
    assert site.visit() == [UNSAID]


def test_an_app_of_any_kind_cannot_speak_through_an_exception(site):
    site.app = explode
    assert site.visit()[0].endswith(UNSAID)


@pytest.mark.parametrize(
    "stage",
    ["_site", "site_log", "parse_experiment", "admit", "_participant", "from_record", "turn"],
)
@pytest.mark.parametrize(
    "error", [ValueError(SECRET), SiteProblem("cohort", SECRET), MemoryError(SECRET)]
)
def test_what_goes_wrong_in_a_visit_leaves_as_one_word(site, stage, error):
    def fail(*_, **__):
        raise error

    site.patch.setattr(site_app, stage, fail)
    if stage == "turn":
        site.patch.setattr(site_app.Participant, "ready", fail)
    sent = site.visit()
    assert sent == ["cohort" if isinstance(error, SiteProblem) else "internal", ""]
    (entry,) = Ledger(site.state / "ledger.jsonl").entries()
    assert entry["message"]["kind"] == "refusal"


def test_an_experiment_of_any_length_is_not_read(site):
    site.patch.setattr(site_app, "LARGEST_TEXT", 100)
    assert site.visit()[0] == "experiment"


def test_what_cannot_be_written_into_the_ledger_is_not_sent(site):
    site.app = explode
    site.state.mkdir()
    (site.state / "ledger.jsonl").mkdir()
    assert site.visit() == [UNSAID]  # the process's own end, and no message


def test_a_bundle_that_would_write_a_file_when_imported_writes_none(site, tmp_path):
    written = tmp_path / "written"
    evil = tmp_path / "bundle" / "evil.py"
    evil.write_text(f"open({str(written)!r}, 'w')")
    unpacked: list[bytes] = []
    site.patch.setattr(
        run_clientapp, "install_from_fab", lambda content, skip_prompt: unpacked.append(content)
    )
    site.bundle = build_fab_from_disk(tmp_path / "bundle")
    assert site.visit()[0].endswith("the bundle holds files that fedrad's does not")
    assert not unpacked
    assert not written.exists()


def test_settings_of_a_bundle_that_is_not_fedrads_are_not_unpacked_by_the_node(monkeypatch):
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pyproject.toml", b"#" * 50_000_000)
    monkeypatch.setattr(supernode, "get_fused_config_from_fab", explode)
    assert supernode.settings_of(bomb.getvalue(), None) == {}
