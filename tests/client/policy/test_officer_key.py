"""Where an officer's key is set up, nothing counts that it has not signed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.hospital import SHORT
from support.joined import join
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.policy.approvals import Approvals
from fedrad.client.policy.integrity import check_site, prepare_start
from fedrad.client.policy.ledger import Ledger
from fedrad.client.policy.ledger_lines import entry_hash
from fedrad.client.policy.officer_key import OfficerKey, pin_key, pinned_key
from fedrad.client.policy.pinned_policy import pin_policy
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import parse_experiment

EXPERIMENT = parse_experiment(SHORT)
PASSPHRASE = "a stick in the safe"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.toml").write_text('name = "a"\n')
    return join(open_site(folder, state=tmp_path / "state"))


@pytest.fixture
def key(site: Site, tmp_path: Path) -> OfficerKey:
    made = OfficerKey.create(tmp_path / "officer.key", PASSPHRASE)
    pin_key(site.state, made, "Dr Data")
    return made


def admitted(site: Site) -> bool:
    try:
        return Approvals(site.state).admits(EXPERIMENT, SHORT) is not None
    except SiteProblem:
        return False


def decide(site: Site, decision, key: OfficerKey | None = None) -> None:
    approvals = Approvals(site.state)
    approvals.decide(approvals.add(EXPERIMENT, SHORT), decision, "x", key=key)


def forge(site: Site, **changes) -> None:
    """Append an entry as somebody can who writes the file without fedrad."""
    ledger = Ledger(site.state / "ledger.jsonl")
    entry = {"experiment": "test", "tensor_bytes": 0, "time": "2026-01-01T00:00:00+00:00"}
    entry |= changes | {"previous": ledger.read().head}
    entry.pop("hash", None)
    entry["hash"] = entry_hash(entry)
    with ledger.path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    ledger.read()


def test_the_key_is_encrypted_and_for_the_officer_alone(tmp_path):
    made = OfficerKey.create(tmp_path / "officer.key", PASSPHRASE)
    text = (tmp_path / "officer.key").read_text()
    assert "BEGIN ENCRYPTED PRIVATE KEY" in text
    assert (tmp_path / "officer.key").stat().st_mode & 0o777 == 0o600
    assert OfficerKey.read(tmp_path / "officer.key", PASSPHRASE).public == made.public
    for wrong in ("", "a stick in the saf", PASSPHRASE + " "):
        with pytest.raises(SiteProblem, match="passphrase is wrong"):
            OfficerKey.read(tmp_path / "officer.key", wrong)
    with pytest.raises(SiteProblem, match="exists already"):
        OfficerKey.create(tmp_path / "officer.key", PASSPHRASE)
    with pytest.raises(SiteProblem, match="at least 12 characters"):
        OfficerKey.create(tmp_path / "other.key", "short")


def test_only_decisions_with_the_officers_signature_admit(site, key):
    with pytest.raises(SiteProblem, match="--key FILE"):
        decide(site, "approved")
    decide(site, "approved", key)
    assert admitted(site)
    decide(site, "revoked", key)
    assert not admitted(site)


def test_an_approval_of_before_the_key_admits_nothing(site, tmp_path):
    decide(site, "approved")
    assert admitted(site)
    pin_key(site.state, OfficerKey.create(tmp_path / "k", PASSPHRASE), "Dr Data")
    assert not admitted(site)


def test_an_approval_that_the_key_did_not_sign_is_listed_as_not_signed(site, tmp_path):
    decide(site, "approved")
    pin_key(site.state, OfficerKey.create(tmp_path / "officer.key", PASSPHRASE), "Dr Data")
    assert "not signed" in command(site, "approve")[1]


def test_a_decision_written_into_the_ledger_without_the_key_admits_nothing(site, key, tmp_path):
    other = OfficerKey.create(tmp_path / "other.key", PASSPHRASE)
    with pytest.raises(SiteProblem, match="not the officer's key"):
        decide(site, "approved", other)
    made = {"decision": "approved", "by": "Dr Data", "time": "2026-01-01T00:00:00+00:00"}
    message = {"kind": "decision", "identity": EXPERIMENT.family, **made}
    forge(site, message=message)
    assert not admitted(site)
    forge(site, message=message, signature="00" * 64)
    assert not admitted(site)
    Ledger(site.state / "ledger.jsonl").note(message, experiment="test", sign=other.sign)
    assert not admitted(site)


def test_a_signed_approval_cannot_be_repeated_after_it_was_taken_back(site, key):
    decide(site, "approved", key)
    signed = next(Ledger(site.state / "ledger.jsonl").newest("decision"))
    decide(site, "revoked", key)
    forge(site, **signed)
    assert not admitted(site)


def test_a_signed_approval_cannot_be_made_longer(site, key):
    decide(site, "approved", key)
    ledger = Ledger(site.state / "ledger.jsonl")
    lines = ledger.path.read_text().splitlines()
    entry = json.loads(lines[-1])
    ledger.path.write_text("\n".join(lines[:-1]) + "\n")
    forge(site, **entry)
    assert admitted(site)  # the same line at the same place
    ledger.path.write_text("\n".join(lines[:-1]) + "\n")
    forge(site, **entry | {"message": entry["message"] | {"runs": 1000}})
    assert not admitted(site)


def test_a_key_is_replaced_only_with_the_signature_of_the_one_before(site, key, tmp_path):
    second = OfficerKey.create(tmp_path / "second.key", PASSPHRASE)
    for unfit in (None, second):
        with pytest.raises(SiteProblem):
            pin_key(site.state, second, "x", replaced=unfit)
    forge(site, message={"kind": "officer key", "public_key": second.public, "by": "x"})
    assert pinned_key(site.state) == key.public  # the line counts for nothing
    decide(site, "approved", key)
    assert admitted(site)
    pin_key(site.state, second, "x", replaced=key)
    assert pinned_key(site.state) == second.public
    assert not admitted(site)
    decide(site, "approved", second)
    assert admitted(site)


@pytest.mark.parametrize("fault", ["deleted", "another", "unreadable"])
def test_the_public_key_removed_or_changed_closes_the_site(site, key, fault, tmp_path):
    decide(site, "approved", key)
    pin_policy(site, "Dr Data", key=key)
    check_site(site)
    file = site.state / "officer.pub"
    if fault == "deleted":
        file.unlink()
    elif fault == "another":
        file.write_text(OfficerKey.create(tmp_path / "o.key", PASSPHRASE).public + "\n")
    else:
        file.write_bytes(b"\xff\xfe")
    assert not admitted(site)
    with pytest.raises(SiteProblem, match=rf"its only line is {key.public}"):
        check_site(site)
    with pytest.raises(SiteProblem):
        decide(site, "approved")


def test_a_ledger_without_the_key_that_was_set_up_closes_the_site(site, key):
    ledger = site.state / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:-1]))
    with pytest.raises(SiteProblem, match="the ledger does not know it"):
        check_site(site)
    assert not admitted(site)


def test_a_policy_must_be_signed_too(site, key):
    with pytest.raises(SiteProblem, match="not signed"):
        check_site(site)  # it was accepted before the key was there
    with pytest.raises(SiteProblem, match="--key FILE"):
        pin_policy(site, "engineer")
    pin_policy(site, "Dr Data", key=key)
    check_site(site)


def test_a_first_start_waits_for_the_officer(tmp_path):
    (tmp_path / "site.toml").write_text('name = "a"\n')
    site = join(open_site(tmp_path, state=tmp_path / "state"), accepted=False)
    made = OfficerKey.create(tmp_path / "officer.key", PASSPHRASE)
    pin_key(site.state, made, "Dr Data")
    with pytest.raises(SiteProblem, match="policy accept FOLDER --key FILE"):
        prepare_start(site, "engineer")
    pin_policy(site, "Dr Data", key=made)
    prepare_start(site, "engineer")


# The commands


def command(site: Site, *arguments: str, answer: str = "") -> tuple[int, str]:
    given = [*arguments, str(site.folder), "--state", str(site.state)]
    result = CliRunner().invoke(app, given, input=answer)
    return result.exit_code, result.output


def test_an_officer_makes_a_key_and_decides_with_it(site, tmp_path):
    file = tmp_path / "stick.key"
    typed = f"{PASSPHRASE}\n{PASSPHRASE}\n"
    status, output = command(site, "officer", "init", "--key", str(file), answer=typed)
    assert status == 0, output
    assert PASSPHRASE not in output
    assert pinned_key(site.state) in output
    assert pinned_key(site.state) in command(site, "officer", "show")[1]
    (tmp_path / "experiment.toml").write_text(SHORT)
    approve = ("approve", "--file", str(tmp_path / "experiment.toml"), "--yes")
    status, output = command(site, *approve)
    assert (status, "--key FILE" in output) == (2, True)
    status, output = command(site, *approve, "--key", str(file), answer="wrong\n")
    assert (status, "passphrase is wrong" in output) == (2, True)
    assert not admitted(site)
    assert command(site, *approve, "--key", str(file), answer=f"{PASSPHRASE}\n")[0] == 0
    assert admitted(site)
    accept = ("policy", "accept", "--yes")
    assert command(site, *accept)[0] == 2
    assert command(site, *accept, "--key", str(file), answer=f"{PASSPHRASE}\n")[0] == 0
    check_site(site)
    again = ("officer", "init", "--key", str(tmp_path / "next.key"))
    assert "set up already" in command(site, *again)[1]
    typed = f"{PASSPHRASE}\nanother passphrase\nanother passphrase\n"
    assert command(site, *again, "--replaces", str(file), answer=typed)[0] == 0
    assert not admitted(site)


def test_a_key_without_a_terminal_for_its_passphrase_decides_nothing(site, key, tmp_path):
    (tmp_path / "experiment.toml").write_text(SHORT)
    file = str(tmp_path / "experiment.toml")
    status, _ = command(
        site, "approve", "--file", file, "--yes", "--key", str(tmp_path / "officer.key")
    )
    assert status != 0
    assert not admitted(site)


def test_a_key_file_that_is_not_there_is_named_before_the_passphrase_is_asked_for(site, key):
    status, output = command(site, "policy", "accept", "--yes", "--key", "elsewhere.key")
    assert (status, "elsewhere.key: no such file" in output) == (2, True)
    assert "Passphrase" not in output


def test_a_question_for_a_passphrase_without_a_terminal_is_no_warning_of_python(site, tmp_path):
    given = [str(site.folder), "--state", str(site.state), "--key", str(tmp_path / "new.key")]
    asked = "from fedrad.client.commands.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", asked, "officer", "init", *given],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,  # no terminal
        check=False,
    )
    assert ended.returncode == 2
    assert "no passphrase was given" in ended.stderr
    assert "GetPassWarning" not in ended.stderr
