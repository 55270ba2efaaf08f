"""Commands that only look something up, and errors of usage, answer at once.

Each runs in a process of its own, which must not import a library that takes seconds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from support.hospital import EXPERIMENT, write_site

from fedrad.client.commands.main import app as site_app
from fedrad.deploy.commands.main import app as coordinator_app
from fedrad.server.federation.records import Records

SLOW_LIBRARIES = {
    "flwr",
    "matplotlib",
    "monai",
    "numpy",
    "onnx",
    "pandas",
    "pydicom",
    "ray",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "torch",
    "torchvision",
    "torchxrayvision",
}

QUICK = {
    "fedrad": [
        ("--help", 0, "Federated training"),
        ("--version", 0, "fedrad "),
        ("nosuch", 2, "No such command"),
        ("init {new}/experiment.toml", 0, "written"),
        ("init {new}/none/experiment.toml", 2, "no such folder"),
        (
            "simulate {new}/none.toml --site a={new} --out {new}/out",
            2,
            "none.toml: cannot be read (No such file or directory)",
        ),
        ("simulate {experiment} --site a --out {new}/out", 2, "write NAME=FOLDER"),
        ("cross-validate {new}/none.toml --site a={new} --out {new}/out", 2, "cannot be read"),
        ("leave-one-site-out {new}/none.toml --site a={new} --out {new}/out", 2, "cannot be read"),
        ("ablate {new}/none.toml --site a={new} --out {new}/out", 2, "cannot be read"),
        (
            "run {new}/none.toml --out {new}/out",
            2,
            "none.toml: cannot be read (No such file or directory)",
        ),
        ("run {experiment} --out {new}/out", 2, "no coordinator here"),
        ("serve", 2, "--address HOST:PORT is needed"),
        ("serve --address x:1 --key {new}/key", 2, "belong together"),
        ("passphrase --remove --coordinator {coordinator}", 0, "without a passphrase"),
        ("invite hospital-a", 2, "no coordinator here"),
        ("invite hospital-b --coordinator {coordinator} --to {new}/b.invitation", 0, "read this"),
        ("sites", 2, "no coordinator here"),
        ("sites --coordinator {coordinator}", 0, "hospital-a"),
        ("sites admit {new}/none.request --coordinator {coordinator}", 2, "none.request"),
        ("sites revoke hospital-a --coordinator {coordinator}", 0, "revoked"),
        ("status {new}", 2, "holds no experiment"),
        ("status {stopped}", 0, "not running, 1 rounds are done"),
        ("stop {stopped}", 2, "no run is at work"),
        ("resume {new}", 2, "holds no experiment"),
        ("report {new}", 2, "holds no summary.json"),
        ("report --index {new}/none", 2, "no such folder"),
        ("compare {new}/a {new}/b", 2, "no such file"),
        ("export {new}", 2, "holds no summary.json"),
        ("weights pin imagenet --experiment {new}/none.toml", 2, "no such file"),
    ],
    "fedrad-site": [
        ("--help", 0, "One hospital"),
        ("--version", 0, "fedrad "),
        ("nosuch", 2, "No such command"),
        ("init {new}", 0, "written"),
        ("init {new}/none", 2, "no such folder"),
        ("check {new}/none", 2, "no such folder"),
        (
            "check {site} --experiment {new}/none.toml",
            2,
            "none.toml: cannot be read (No such file or directory)",
        ),
        ("join {new}/none.invitation {site}", 2, "none.invitation"),
        ("start {site}", 2, "join"),
        ("start {new}/none", 2, "no such folder"),
        ("stop {site}", 2, "no node of this site runs here"),
        ("passphrase {site} --remove", 2, "node.key: No such file"),
        ("ledger {site}", 0, "the chain is whole"),
        ("book {site}", 0, "No experiment has asked this site anything"),
        ("approve {site}", 0, "No experiment was asked for yet"),
        ("approve {site} --file {experiment} --yes", 0, "approved"),
        ("policy show {site}", 0, "Nobody has accepted it yet"),
        ("policy accept {site} --yes", 0, "accepted"),
        ("officer show {site}", 0, "No officer's key is set up"),
        ("officer init {site} --key {experiment}", 2, "exists already"),
        ("withdraw {site}", 2, "give patient numbers, or --file"),
        ("withdraw {new}/none 1", 2, "no such folder"),
        ("explain {site} --model {new}/m.safetensors --experiment {experiment}", 2, "no such file"),
        ("predict {new}/m.safetensors {new}/image.png", 2, "no such file"),
        ("progression {new}/i.png --generator {new}/g --towards x --out {new}/o", 2, "no such"),
    ],
}
"""Program -> arguments, status, and words of what is printed."""

SLOW = {
    "fedrad": {"demo": "it draws phantoms, trains and tests, whatever it is asked"},
    "fedrad-site": {},
}
"""Program -> command -> why no use of it is quick."""

SCRIPT = """
import json, sys
sys.argv = json.loads(sys.argv[1])
from {module} import main
try:
    main()
finally:
    print("MODULES", json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
MODULES = {
    "fedrad": "fedrad.deploy.commands.main",
    "fedrad-site": "fedrad.client.commands.main",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """Folders that commands are pointed at; `new` is made for each command."""
    from fedrad.deploy.coordinator.folder import Coordinator

    root = tmp_path_factory.mktemp("quick")
    (root / "experiment.toml").write_text(EXPERIMENT)
    coordinator = Coordinator(root / "coordinator")
    coordinator.set_up("localhost:8000", listen="127.0.0.1", names=[], own=None)
    coordinator.invite("hospital-a", root / "a.invitation", days=1)
    stopped = root / "stopped"
    (stopped / "checkpoint").mkdir(parents=True)
    (stopped / "experiment.toml").write_text(EXPERIMENT)
    progress = {"status": "stopped", "why": "as asked", "rounds": [{"round": 1}]}
    (stopped / "checkpoint" / "progress.json").write_text(json.dumps(progress))
    records = Records(stopped / "records.sqlite")
    records.add(1, "", {}, began="all")
    records.add(1, "a", {"seconds": 1.5, "loss": 0.7}, status="ok")
    records.close()
    site = write_site(root / "site", 4, seed=1)
    (site / "site.toml").write_text('name = "a"\nstate = "state"\n')
    return {
        "experiment": root / "experiment.toml",
        "coordinator": root / "coordinator",
        "stopped": stopped,
        "site": site,
    }


def imported(program: str, arguments: list[str], home: Path) -> tuple[int, str, set[str]]:
    """Status, output, and packages that a command imported."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT.format(module=MODULES[program]),
            json.dumps([program, *arguments]),
        ],
        env=os.environ | {"XDG_STATE_HOME": str(home), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    output, _, names = ended.stdout.rpartition("MODULES ")
    assert names, ended.stdout
    names, _, rest = names.partition("\n")
    return ended.returncode, output + rest, set(json.loads(names))


@pytest.mark.parametrize(
    ("program", "arguments", "status", "words"),
    [(program, *row) for program, rows in QUICK.items() for row in rows],
)
def test_a_command_answers_at_once(program, arguments, status, words, places, tmp_path):
    given = [part.format(new=tmp_path, **places) for part in arguments.split()]
    ended, output, packages = imported(program, given, tmp_path / "home")
    assert ended == status, output
    assert words in output
    assert not packages & SLOW_LIBRARIES, sorted(packages & SLOW_LIBRARIES)


def commands(group: click.Command, prefix: str = "") -> set[str]:
    """Full names of all commands of a group."""
    if not isinstance(group, click.Group):
        return {prefix.strip()}
    own = {prefix.strip()} if group.invoke_without_command else set()
    return own.union(*(commands(c, f"{prefix} {name}") for name, c in group.commands.items()))


@pytest.mark.parametrize(
    ("program", "app"), [("fedrad", coordinator_app), ("fedrad-site", site_app)]
)
def test_every_command_is_quick_or_named_as_slow(program, app):
    named = commands(typer.main.get_command(app)) - {""}
    tried = {
        name
        for name in named
        if any(f"{arguments} ".startswith(f"{name} ") for arguments, *_ in QUICK[program])
    }
    assert tried | set(SLOW[program]) == named
    assert not tried & set(SLOW[program])
