"""A coordinator and three hospitals on four hosts, from invitation to report. Root; minutes."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hosts import BIN, HOSPITALS, PORT, TEXT, Hosts
from support.leaks import scores_in, without_arrays
from support.namespaces import ADDRESS, HOST, Network, available

from fedrad.exchange.invitation import Invitation
from fedrad.server.results.summary import Summary, read_summary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="needs root and network namespaces"),
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """The federation of the docs, with a cable that was out for a while in one round."""
    with Network(HOSPITALS) as network:
        hosts = Hosts(network, tmp_path_factory.mktemp("hosts"))
        try:
            hosts.start("serve", "coordinator", "fedrad", "serve", "--address", f"{HOST}:{PORT}")
            hosts.wait_for("serve", "coordinator", "hospitals reach this coordinator")
            for hospital in HOSPITALS:
                hosts.join(hospital)
                hosts.start(hospital, hospital, "fedrad-site", "start", str(hosts.folder(hospital)))
            for hospital in HOSPITALS:
                hosts.wait_for(hospital, hospital, "connected; waiting")
            hosts.write("experiment.toml", TEXT, approved_by=HOSPITALS[:2])
            hosts.start(
                "run", "coordinator", "fedrad", "run", "experiment.toml", "--out", "results"
            )
            hosts.wait_for("run", "coordinator", "hospital-c does not take part: the site has not")
            hosts.do(
                "hospital-c",
                "fedrad-site",
                "approve",
                str(hosts.folder("hospital-c")),
                "deployed",
                "--yes",
            )
            hosts.wait_for("run", "coordinator", "Round 2 of 15")
            network.unplug("hospital-c")
            hosts.wait_for("run", "coordinator", "Round 3 of 15", 240)
            network.plug("hospital-c")
            hosts.running["run"].wait(timeout=600)
            yield hosts
        finally:
            hosts.end()


@pytest.fixture(scope="module")
def summary(hosts: Hosts) -> Summary:
    return read_summary(hosts.home("coordinator") / "results")


def test_the_experiment_ends_with_figures_of_all_three(hosts: Hosts, summary: Summary) -> None:
    assert summary.status == "completed", hosts.output("run", "coordinator")
    cells = {c.site: c for c in summary.cells if c.model == "global"}
    assert cells.keys() == set(HOSPITALS)
    assert all(cell.auroc is not None for cell in cells.values())


def test_a_hospital_that_was_unplugged_is_named_and_comes_back_by_itself(
    hosts: Hosts, summary: Summary
) -> None:
    went = [round_.sites["hospital-c"].status for round_ in summary.rounds]
    assert went[0] == "ok"
    assert {"lost", "timeout"} & set(went)
    assert went[-1] == "ok"
    for hospital in ("hospital-a", "hospital-b"):
        assert {round_.sites[hospital].status for round_ in summary.rounds} == {"ok"}


def test_a_hospital_speaks_to_the_coordinators_port_and_to_no_other_address(hosts: Hosts) -> None:
    for hospital in HOSPITALS:
        assert hosts.network.partners(hospital) == {(ADDRESS, PORT)}


def test_nothing_that_leaves_a_hospital_names_a_patient_a_file_or_a_folder(hosts: Hosts) -> None:
    """`CANARY` is in every patient's number, and in the path of every folder of a hospital."""
    for hospital in HOSPITALS:
        sent = hosts.tap(hospital).read_bytes()
        assert len(sent) > 100_000, "the tap works"
        assert hospital.encode() in sent, "the tap sees the unencrypted text"
        frames = b"".join(hosts.network.frames[hospital])
        assert b"\x16\x03" in frames, "TLS"
        for seen in (sent, frames):
            assert b"CANARY" not in seen
            assert b".png" not in seen
        assert hospital.encode() not in frames, "on the wire nothing can be read"


def test_no_score_leaves_a_hospital(hosts: Hosts) -> None:
    """In no encoding, in either order of bytes, nor as text; `support.leaks` says how exactly."""
    for hospital in HOSPITALS:
        ledger = (hosts.state(hospital) / "ledger.jsonl").read_text().splitlines()
        messages = [json.loads(line).get("message", {}) for line in ledger]
        hashes = {m["manifest"]["sha256"] for m in messages if m.get("manifest")}
        rest, weights = without_arrays(hosts.tap(hospital).read_bytes(), hashes)
        assert len(rest) < len(weights) / 5, "what is left is small, so that nothing is by chance"
        files = list(hosts.state(hospital).glob("experiments/*/scores/**/*.npz"))
        assert files
        for file in files:
            scores = np.load(file)["logits"].ravel()
            assert scores_in(rest, scores, single=True) == [], file.name
            assert scores_in(weights, scores, single=False) == [], file.name


def test_nothing_at_the_coordinator_names_a_patient_a_file_or_a_folder(hosts: Hosts) -> None:
    files = [file for file in hosts.home("coordinator").rglob("*") if file.is_file()]
    assert {"superlink.db", "superlink.log", "report.html", "records.sqlite"} <= {
        file.name for file in files
    }
    for file in files:
        assert b"CANARY" not in file.read_bytes(), file


def test_private_keys_are_for_their_owner_alone_and_never_travelled(hosts: Hosts) -> None:
    keys = [file for file in hosts.root.rglob("*.key") if file.is_file()]
    names = {"node.key", "split.key", "ca.key", "server.key"}
    assert names == {file.name for file in keys}
    for file in keys:
        assert file.stat().st_mode & 0o077 == 0, file
    for hospital in HOSPITALS:
        secret = (hosts.state(hospital) / "node.key").read_bytes().split(b"\n")[2]
        assert secret not in hosts.tap(hospital).read_bytes()
        for file in hosts.home("coordinator").rglob("*"):
            assert not file.is_file() or secret not in file.read_bytes()


# Rogues


def ask(hosts: Hosts, hospital: str, path: str, head: list[str], body: Path | None = None) -> str:
    """The status of a request that somebody at a hospital's host makes by hand."""
    authority = hosts.state(hospital) / "coordinator-ca.crt"
    given = [f"-H{line}" for line in head] + (["--data-binary", f"@{body}"] if body else [])
    ended = subprocess.run(
        hosts.network.at(
            hospital,
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            "10",
            "--cacert",
            str(authority),
            "-XPOST",
            *given,
            f"https://{HOST}:{PORT}{path}",
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout


def test_a_hospital_cannot_start_runs_admit_nodes_or_read_the_coordinators_mind(
    hosts: Hosts,
) -> None:
    for path in (
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/docs",
        "/openapi.json",
        "/v1/control/../fleet/x",
    ):
        assert ask(hosts, "hospital-a", path, []) == "404", path


def test_a_request_that_is_sent_twice_is_answered_once(hosts: Hosts, tmp_path: Path) -> None:
    """A node's last request, taken before it was encrypted, sent again while its time is fresh."""
    sent = hosts.tap("hospital-a").read_bytes()
    start = sent.rfind(b"POST /v1/fleet/pull-messages")
    head, _, rest = sent[start:].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    size = int(next(v for v in lines if v.lower().startswith("content-length")).split(":")[1])
    body = tmp_path / "body"
    body.write_bytes(rest[:size])
    again = [line for line in lines if not line.lower().startswith(("host", "content-length"))]
    assert ask(hosts, "hospital-b", "/v1/fleet/pull-messages", again, body) == "401"


def rogue(hosts: Hosts, hospital: str, *arguments: str, seconds: float = 40) -> str:
    """Output of a SuperNode of Flower that is started at a hospital's host by an intruder."""
    home = hosts.home(hospital) / "rogue"
    home.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        hosts.network.at(
            hospital,
            str(BIN / "flower-supernode"),
            "--superlink",
            f"{HOST}:{PORT}",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--isolation",
            "process",
            *arguments,
        ),
        env=os.environ | {"FLWR_HOME": str(home)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
    return output


def test_a_node_without_a_key_is_turned_away(hosts: Hosts) -> None:
    authority = str(hosts.state("hospital-a") / "coordinator-ca.crt")
    output = rogue(hosts, "hospital-a", "--root-certificates", authority)
    assert "SuperNode ID" not in output, "the number that a node gets"


def test_a_node_with_a_key_that_was_not_admitted_is_turned_away(
    hosts: Hosts, tmp_path: Path
) -> None:
    key = tmp_path / "own.key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(key)], check=True
    )
    authority = str(hosts.state("hospital-a") / "coordinator-ca.crt")
    output = rogue(
        hosts,
        "hospital-a",
        "--root-certificates",
        authority,
        "--auth-supernode-private-key",
        str(key),
    )
    assert "SuperNode ID" not in output, "the number that a node gets"


def test_a_node_does_not_speak_to_a_coordinator_of_another_authority(hosts: Hosts) -> None:
    """The coordinator moves to another folder, with another authority, at the same address."""
    other = hosts.home("coordinator") / "other"
    hosts.running["serve"].send_signal(signal.SIGINT)
    hosts.running["serve"].wait(timeout=60)
    before = len(hosts.tap("hospital-a").read_bytes())
    hosts.start(
        "other",
        "coordinator",
        "fedrad",
        "serve",
        "--address",
        f"{HOST}:{PORT}",
        "--coordinator",
        str(other),
    )
    hosts.wait_for("other", "coordinator", "hospitals reach this coordinator")
    time.sleep(10)
    assert len(hosts.tap("hospital-a").read_bytes()) == before
    hosts.running["other"].send_signal(signal.SIGINT)
    hosts.running["other"].wait(timeout=60)
    hosts.start("serve", "coordinator", "fedrad", "serve")
    for hospital in HOSPITALS:
        hosts.wait_for(
            hospital, hospital, r"(?s)not the one of the invitation.*connected; waiting", 240
        )


def test_a_stop_waits_for_the_round_in_hand_and_a_start_goes_on(hosts: Hosts) -> None:
    text = TEXT.replace('"deployed"', '"stopped"').replace(', "hospital-c"', "")
    slow = text.replace("local_epochs = 40", "local_epochs = 100").replace("= 15\n", "= 2\n", 1)
    slow = slow.replace("batch_size = 8", "batch_size = 4")
    hosts.write("second.toml", slow, approved_by=HOSPITALS[:2])
    hosts.start("second", "coordinator", "fedrad", "run", "second.toml", "--out", "second")
    hosts.wait_for("second", "coordinator", "Round 1 of 2")
    start = len(hosts.output("hospital-a", "hospital-a"))
    hosts.wait_for("hospital-a", "hospital-a", r"working on it\s*\Z")
    hosts.do("hospital-a", "fedrad-site", "stop", str(hosts.folder("hospital-a")))
    printed = hosts.output("hospital-a", "hospital-a")[start:]
    assert re.search(r"stopping; a round in hand.*answered.*stopped", printed, re.DOTALL), printed
    folder = str(hosts.folder("hospital-a"))
    hosts.start("hospital-a", "hospital-a", "fedrad-site", "start", folder)
    hosts.running["second"].wait(timeout=300)
    rounds = read_summary(hosts.home("coordinator") / "second").rounds
    assert [round_.sites["hospital-a"].status for round_ in rounds] == ["ok", "ok"]


def test_a_revoked_hospital_is_turned_away_and_the_others_stay(hosts: Hosts) -> None:
    hosts.do("coordinator", "fedrad", "sites", "revoke", "hospital-c")
    hosts.wait_for("hospital-c", "hospital-c", "does not let this node in", 150)
    listed = hosts.do("coordinator", "fedrad", "sites")
    assert re.search(r"hospital-c\W+revoked", listed)


def test_an_expired_or_exchanged_invitation_is_refused(hosts: Hosts) -> None:
    here = hosts.home("coordinator")
    hosts.do("coordinator", "fedrad", "invite", "hospital-d", "--days", "0.000001")
    letter = here / "hospital-d.invitation"
    (hosts.home("hospital-c") / "site-d").mkdir()
    late = hosts.home("hospital-c") / "late.invitation"
    late.write_bytes(letter.read_bytes())
    time.sleep(1)
    output = hosts.do(
        "hospital-c",
        "fedrad-site",
        "join",
        str(late),
        "site-d",
        "--name",
        "hospital-d",
        "--fingerprint",
        Invitation.read(late).fingerprint(),
        fails=True,
    )
    assert "expired" in output
    changed = json.loads(late.read_text()) | {"address": "evil.example:8000"}
    late.write_text(json.dumps(changed))
    output = hosts.do(
        "hospital-c",
        "fedrad-site",
        "join",
        str(late),
        "site-d",
        "--name",
        "hospital-d",
        "--fingerprint",
        Invitation.read(letter).fingerprint(),
        fails=True,
    )
    assert "not joined" in output


def test_stopping_a_site_waits_for_nothing_when_nothing_is_in_hand(hosts: Hosts) -> None:
    output = hosts.do("hospital-b", "fedrad-site", "stop", str(hosts.folder("hospital-b")))
    assert "stopped" in output
    assert hosts.running["hospital-b"].wait(timeout=10) == 0
