"""Whatever goes wrong at a site, no path, name or value leaves in an exception's text.

Flower's own processes work on every message here; one thing in them fails.
"""

import shutil
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from support.hospital import EXPERIMENT, write_site
from support.supernode import SuperNode, VisitOutcome

from fedrad.client.node.outgoing_errors import NO_REASON
from fedrad.client.policy.ledger import Ledger
from fedrad.exchange.messages import Readiness, Refusal, from_record
from fedrad.flower import supernode
from fedrad.flower.bundles import BUNDLE, MORE, NOT_UNPACKED
from fedrad.flower.internals import ErrorCode

SECRET = "/hospital/CANARY-0007/chest.dcm: 37 years"
EXPLODE = f"""
def explode(*_, **__):
    raise OSError(28, "No space left on device", {SECRET!r})
from flwr.supernode.runtime import run_clientapp
from fedrad.client import app
"""
RAISED = ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class SiteUnderTest:
    """A site with a new state folder for each test, and a node that all tests share."""

    def __init__(self, node: SuperNode, state: Path) -> None:
        self.node, self.state = node, state
        self.bundle = build_fab_from_disk(BUNDLE.parent)

    def visit(self, fault: str = "", bundle: bytes | None = None) -> VisitOutcome:
        """Ask whether the site is ready; nothing secret leaves, whatever else does."""
        config = {"experiment": EXPERIMENT}
        visit = self.node.visit(bundle or self.bundle, config, fault)
        assert b"CANARY" not in visit.left + visit.details.encode()
        return visit

    def entry(self) -> dict:
        """The one entry of the ledger."""
        (entry,) = Ledger(self.state / "ledger.jsonl").entries()
        return entry["message"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperNode]:
    folder = tmp_path_factory.mktemp("CANARY-node")
    site = write_site(folder / "CANARY-site", 8)
    config = {"folder": str(site), "name": "a", "state": str(folder / "state")}
    with SuperNode(folder, config) as node:
        yield node


@pytest.fixture
def site(node: SuperNode) -> SiteUnderTest:
    state = node.log.parent / "state"
    shutil.rmtree(state, ignore_errors=True)
    return SiteUnderTest(node, state)


def test_without_a_fault_the_site_answers(site):
    visit = site.visit()
    assert from_record(visit.answer.content, Readiness)[0].fedrad
    assert visit.details == ""
    assert site.entry()["kind"] == "readiness"


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("run_clientapp.get_load_client_app_fn = explode", RAISED, NO_REASON),
        ("run_clientapp.get_project_dir = explode", RAISED, NO_REASON),
        ("type(app.app).__call__ = explode", RAISED, NO_REASON),
        (
            "import sys; sys.modules['fedrad.client.app'] = None",
            ErrorCode.LOAD_CLIENT_APP_EXCEPTION,
            NO_REASON,
        ),
        (f"import os; os.environ['FLWR_HOME'] = {str(BUNDLE)!r}", RAISED, NOT_UNPACKED),
    ],
    ids=["loader", "folder of the bundle", "the app itself", "app not installed", "disk"],
)
def test_what_goes_wrong_around_the_app_leaves_as_a_sentence_of_the_list(site, fault, code, reason):
    visit = site.visit(EXPLODE + fault)
    assert (visit.answer.error.code, visit.answer.error.reason) == (code, reason)
    assert visit.details == reason
    assert site.entry() == {"kind": "error", "sentence": reason}


def test_where_there_is_no_message_yet_nothing_but_the_sentence_leaves(site):
    visit = site.visit(EXPLODE + "run_clientapp.pull_task_input = explode")
    assert visit.answer is None
    assert visit.details == NO_REASON


@pytest.mark.parametrize(
    "stage",
    [
        "_site",
        "site_log",
        "parse_experiment",
        "check_request",
        "_participant",
        "from_record",
        "gpu_lock",
    ],
)
@pytest.mark.parametrize("error", ["ValueError", "SiteProblem", "MemoryError"])
def test_what_goes_wrong_in_a_visit_leaves_as_one_word(site, stage, error):
    given = ("cohort", SECRET) if error == "SiteProblem" else (SECRET,)
    visit = site.visit(
        f"from fedrad.client import app\nfrom fedrad.client.problems import SiteProblem\n"
        f"def fail(*_, **__):\n    raise {error}(*{given!r})\n"
        f"assert hasattr(app, {stage!r})\napp.{stage} = fail\n"
        + ("app.Participant.ready = fail\n" if stage == "gpu_lock" else "")
    )
    word = "cohort" if error == "SiteProblem" else "internal"
    assert from_record(visit.answer.content, Refusal)[0].reason == word
    assert visit.details == ""
    assert site.entry()["kind"] == "refusal"


def test_an_experiment_of_any_length_is_not_read(site):
    visit = site.visit("from fedrad.client import app; app.LARGEST_TEXT = 100")
    assert from_record(visit.answer.content, Refusal)[0].reason == "experiment"


def test_what_cannot_be_written_into_the_ledger_is_not_sent(site):
    (site.state / "ledger.jsonl").mkdir(parents=True)
    visit = site.visit(EXPLODE + "type(app.app).__call__ = explode")
    assert visit.answer is None
    assert visit.details == NO_REASON  # of the process's own end


def test_a_bundle_that_would_write_a_file_when_imported_writes_none(site, tmp_path):
    written = tmp_path / "written"
    (tmp_path / "bundle").mkdir()
    shutil.copy(BUNDLE, tmp_path / "bundle")
    (tmp_path / "bundle" / "evil.py").write_text(f"open({str(written)!r}, 'w')")
    visit = site.visit(bundle=build_fab_from_disk(tmp_path / "bundle"))
    assert (visit.answer.error.code, visit.answer.error.reason) == (RAISED, MORE)
    assert not list(site.node.home.rglob("evil.py"))
    assert not written.exists()


def test_settings_of_a_bundle_that_is_not_fedrads_are_not_unpacked_by_the_node(monkeypatch):
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pyproject.toml", b"#" * 50_000_000)
    monkeypatch.setattr(supernode, "get_fused_config_from_fab", pytest.fail)
    assert supernode.bundle_settings(bomb.getvalue(), None) == {}
