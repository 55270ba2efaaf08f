"""A coordinator that ships code, over Flower's own SuperLink and a real node. Minutes."""

import re
import shutil
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, write_site
from support.stock_flower import StockFlower

from fedrad.client.node.service import NODE_COMMAND
from fedrad.client.policy.ledger import Ledger
from fedrad.flower.bundles import BUNDLE, MORE
from fedrad.flower.processes import own_flower_processes

pytestmark = pytest.mark.slow


def test_code_in_a_bundle_is_not_even_unpacked_and_the_ledger_has_what_left(
    tmp_path: Path,
) -> None:
    """The server's own side runs it, as it may; at the site nothing is written."""
    state, ran = tmp_path / "state", tmp_path / "ran"
    folder = write_site(tmp_path / "CANARY-site", 20)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    shutil.copy(BUNDLE, bundle)
    (bundle / "evil.py").write_text(f"open({str(ran)!r}, 'a').write('ran')\napp = None\n")
    text = (bundle / "pyproject.toml").read_text()
    (bundle / "pyproject.toml").write_text(text.replace("fedrad.client.app:app", "evil:app"))
    with own_flower_processes({"OMP_NUM_THREADS": "1"}, StockFlower) as flower:
        assert isinstance(flower, StockFlower)
        flower.start_superlink()
        node = {"folder": str(folder), "name": "a", "state": str(state)}
        flower.start_supernode("a", node, NODE_COMMAND)
        config = {"experiment": EXPERIMENT, "out": str(tmp_path / "out"), "wait-seconds": 20.0}
        lines = "\n".join(flower.run_bundle(config, bundle))
        log = flower.last_lines("a", 10_000)
        installed = [file.name for file in (flower.folder / "a").rglob("*.py")]
    assert "no quorum" in lines
    assert MORE in log
    assert not installed
    assert not ran.exists()
    assert not re.search(r"CANARY|Traceback.*evil", lines)
    entries = Ledger(state / "ledger.jsonl").entries()
    assert {e["message"]["kind"] for e in entries} == {"error"}
    assert {e["message"]["sentence"] for e in entries} == {MORE}
