"""Invitation and request: any change to these files on their way is detected."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedrad.client.policy.membership import join_federation, read_membership
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site
from fedrad.deploy.commands.main import app
from fedrad.deploy.coordinator.authority import Authority
from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.deploy.refused import Refused
from fedrad.exchange.invitation import Invitation, InvitationError, JoinRequest
from fedrad.server.federation.members import Members
from fedrad.system.files import JsonFile

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEY = ec.derive_private_key(7, ec.SECP384R1())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Authority(tmp_path_factory.mktemp("ca")).certificate_file.read_text()


@pytest.fixture
def invitation(certificate: str) -> Invitation:
    return Invitation(
        id="0" * 32,
        site="hospital-a",
        address="coordinator.example.org:8000",
        ca_certificate=certificate,
        expires=datetime.now(UTC) + timedelta(days=1),
    )


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    here = Coordinator(tmp_path / "coordinator")
    here.set_up("localhost:8000", listen="127.0.0.1", names=[], own=None)
    return here


@pytest.fixture
def hospital(tmp_path: Path):
    folder = tmp_path / "hospital"
    folder.mkdir()
    return open_site(folder, name="hospital-a", state=tmp_path / "state")


# The files


def test_an_invitation_is_read_as_it_was_written(invitation, tmp_path):
    invitation.write(tmp_path / "letter")
    assert Invitation.read(tmp_path / "letter") == invitation


def test_every_field_of_an_invitation_is_in_its_fingerprint(invitation, certificate):
    other = {
        "id": "1" * 32,
        "site": "hospital-b",
        "address": "evil.example:8000",
        "expires": NOW + timedelta(days=900),
    }
    prints = {invitation.fingerprint()}
    for field, value in other.items():
        prints.add(invitation.model_copy(update={field: value}).fingerprint())
    with_other_ca = certificate.replace("M", "N", 1)
    prints.add(invitation.model_copy(update={"ca_certificate": with_other_ca}).fingerprint())
    assert len(prints) == 2 + len(other)


def test_a_fingerprint_can_be_read_out(invitation):
    groups = invitation.fingerprint().split(" ")
    assert [len(group) for group in groups] == [4] * 8


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_request_is_refused(at, change):
    request = JoinRequest.model_construct(
        invitation="0" * 32, site="a", public_key="", signature=""
    )
    good = JoinRequest.answer(
        Invitation.model_construct(id=request.invitation, site=request.site), KEY
    ).model_dump_json()
    damaged = bytearray(good.encode())
    damaged[at % len(damaged)] ^= change
    try:
        read = JoinRequest.model_validate_json(bytes(damaged))
    except ValueError:
        return
    if read.model_dump_json() != good:
        with pytest.raises(InvitationError, match="not signed"):
            read.check_signature()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\xfe", b"[" * 70_000, b'{"kind": "request"}']
)
def test_what_is_no_invitation_is_refused_as_none(tmp_path, content):
    file = tmp_path / "letter"
    file.write_bytes(content)
    with pytest.raises(InvitationError, match="no invitation of fedrad"):
        Invitation.read(file)
    with pytest.raises(InvitationError, match="cannot be read"):
        Invitation.read(tmp_path / "nowhere")


# At the hospital


def test_joining_makes_a_key_that_no_other_user_can_read_and_that_is_not_in_the_request(
    invitation, hospital, tmp_path
):
    request = join_federation(hospital, invitation, tmp_path / "a.request")
    membership = read_membership(hospital.state)
    assert membership.key.stat().st_mode & 0o777 == 0o600
    private = load_ssh_private_key(membership.key.read_bytes(), None)
    number = private.private_numbers().private_value
    assert number.to_bytes(48).hex() not in (tmp_path / "a.request").read_text()
    assert JoinRequest.read(tmp_path / "a.request") == request
    request.check_signature()
    assert (membership.host, membership.port) == ("coordinator.example.org", 8000)


def test_an_invitation_answered_twice_gets_the_same_key_and_another_one_a_new_key_if_told_so(
    invitation, hospital, tmp_path
):
    first = join_federation(hospital, invitation, tmp_path / "1")
    assert join_federation(hospital, invitation, tmp_path / "2").public_key == first.public_key
    other = invitation.model_copy(update={"id": "2" * 32})
    with pytest.raises(SiteProblem, match=r"nothing was changed.*--new-key"):
        join_federation(hospital, other, tmp_path / "3")
    replaced = join_federation(hospital, other, tmp_path / "3", new_key=True)
    assert replaced.public_key != first.public_key


def test_an_invitation_that_expired_or_is_for_another_site_is_refused(
    invitation, hospital, tmp_path
):
    late = invitation.model_copy(update={"expires": NOW - timedelta(days=300)})
    with pytest.raises(SiteProblem, match="expired"):
        join_federation(hospital, late, tmp_path / "r")
    other = invitation.model_copy(update={"site": "hospital-b"})
    with pytest.raises(SiteProblem, match="must be the same"):
        join_federation(hospital, other, tmp_path / "r")
    assert not (tmp_path / "r").exists()
    with pytest.raises(SiteProblem, match="has not joined"):
        read_membership(hospital.state)


def test_a_damaged_membership_is_refused_and_the_key_is_not_replaced(
    invitation, hospital, tmp_path
):
    join_federation(hospital, invitation, tmp_path / "1")
    before = (hospital.state / "node.key").read_bytes()
    (hospital.state / "membership.json").write_text('{"site": "a secret/name"}')
    for use in (
        lambda: read_membership(hospital.state),
        lambda: join_federation(hospital, invitation, tmp_path / "2"),
    ):
        with pytest.raises(SiteProblem) as caught:
            use()
        text = str(caught.value)
        assert "membership.json: cannot be read (" in text
        assert "restore it from a backup, or remove it and join with a new invitation" in text
        assert "secret" not in text
        assert "http" not in text
    assert (hospital.state / "node.key").read_bytes() == before
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize("fault", ["request", "state"])
def test_a_second_join_that_fails_leaves_the_first_membership(
    invitation, hospital, tmp_path, fault
):
    join_federation(hospital, invitation, tmp_path / "1")
    before = {file.name: file.read_bytes() for file in hospital.state.iterdir()}
    other = invitation.model_copy(update={"id": "2" * 32})
    request = tmp_path / ("2" if fault == "state" else "no-folder/2")
    if fault == "state":  # a folder where the temporary file of the key would be
        (hospital.state / f".node.key.{os.getpid()}.partial").mkdir()
    with pytest.raises(SiteProblem, match="cannot be written"):
        join_federation(hospital, other, request, new_key=True)
    assert {f.name: f.read_bytes() for f in hospital.state.iterdir() if f.is_file()} == before
    assert not request.exists()


# At the coordinator


def invite(coordinator: Coordinator, *options: str):
    command = ["invite", "hospital-a", *options, "--coordinator", str(coordinator.folder)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


def test_an_invitation_that_cannot_be_written_leaves_the_earlier_one_valid(
    coordinator, hospital, tmp_path
):
    request = answered(coordinator, hospital, tmp_path)
    ended = invite(coordinator, "--to", str(tmp_path / "no-folder" / "a.invitation"))
    assert ended.exit_code == 2
    assert "cannot be written: No such file or directory" in ended.output
    coordinator.admit(coordinator.read_request(request))


def test_no_file_is_left_of_an_invitation_that_is_not_in_the_list(
    coordinator, tmp_path, monkeypatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JsonFile, "write", full)
    with pytest.raises(OSError, match="No space left"):
        coordinator.invite("hospital-a", tmp_path / "a.invitation", days=1)
    assert not (tmp_path / "a.invitation").exists()


def test_a_second_invitation_says_that_the_first_is_void(coordinator, tmp_path):
    first = invite(coordinator, "--to", str(tmp_path / "1"))
    second = invite(coordinator, "--to", str(tmp_path / "2"))
    assert "void" not in first.output
    assert "The earlier invitation of hospital-a, which was not answered, is void" in second.output


@pytest.mark.parametrize("days", ["1e9", "nan", "inf", "-3", "0", "365.1"])
def test_an_invitation_is_for_at_most_a_year(coordinator, tmp_path, days):
    ended = invite(coordinator, "--to", str(tmp_path / "a.invitation"), "--days", days)
    assert ended.exit_code == 2
    assert "is not above 0 and at most 365" in ended.output
    assert not (tmp_path / "a.invitation").exists()
    assert coordinator.members().sites == []


def answered(coordinator: Coordinator, hospital, tmp_path: Path, days: float = 1) -> Path:
    letter = tmp_path / "a.invitation"
    letter.unlink(missing_ok=True)
    invitation = coordinator.invite("hospital-a", letter, days=days)
    join_federation(hospital, invitation, tmp_path / "a.request", new_key=True)
    return tmp_path / "a.request"


def test_a_site_that_was_invited_and_answered_is_admitted_once(coordinator, hospital, tmp_path):
    request = coordinator.read_request(answered(coordinator, hospital, tmp_path))
    coordinator.admit(request)
    (member,) = Members.read(coordinator.members_file).admitted()
    assert (member.site, member.public_key) == ("hospital-a", request.public_key)
    with pytest.raises(Refused, match="admitted already"):
        coordinator.admit(request)
    with pytest.raises(Refused, match="admitted already"):
        coordinator.invite("hospital-a", tmp_path / "again", days=1)


def test_a_request_that_answers_nothing_is_refused(coordinator, invitation, hospital, tmp_path):
    join_federation(hospital, invitation, tmp_path / "r")
    with pytest.raises(Refused, match="answers no invitation"):
        coordinator.read_request(tmp_path / "r")


def test_a_request_under_another_name_or_with_another_key_is_refused(
    coordinator, hospital, tmp_path
):
    file = answered(coordinator, hospital, tmp_path)
    held = json.loads(file.read_text())
    mine = JoinRequest.answer(
        Invitation.model_construct(id=held["invitation"], site=held["site"]), KEY
    )
    for change in ({"site": "hospital-b"}, {"public_key": mine.public_key}):
        file.write_text(json.dumps(held | change))
        with pytest.raises(Refused, match="not signed"):
            coordinator.read_request(file)


def test_an_invitation_that_was_replaced_revoked_or_expired_admits_no_site(
    coordinator, hospital, tmp_path
):
    first = answered(coordinator, hospital, tmp_path).read_bytes()
    second = answered(coordinator, hospital, tmp_path)
    (tmp_path / "first").write_bytes(first)
    with pytest.raises(Refused, match="answers no invitation"):
        coordinator.read_request(tmp_path / "first")
    coordinator.revoke("hospital-a")
    with pytest.raises(Refused, match="revoked"):
        coordinator.read_request(second)
    third = answered(coordinator, hospital, tmp_path)
    with Members.changed(coordinator.members_file) as members:
        members.sites[-1].expires = NOW - timedelta(days=300)
    with pytest.raises(Refused, match="expired"):
        coordinator.read_request(third)


def test_a_revoked_site_can_be_invited_again_and_keeps_its_past_in_the_list(
    coordinator, hospital, tmp_path
):
    coordinator.admit(coordinator.read_request(answered(coordinator, hospital, tmp_path)))
    assert coordinator.revoke("hospital-a") == "admitted"
    with pytest.raises(Refused, match="neither invited nor admitted"):
        coordinator.revoke("hospital-a")
    coordinator.admit(coordinator.read_request(answered(coordinator, hospital, tmp_path)))
    held = Members.read(coordinator.members_file).sites
    assert [member.status for member in held] == ["revoked", "admitted"]
    assert held[0].public_key != held[1].public_key


@pytest.mark.parametrize("address", ["nowhere", "a b:1", ":8000", "https://x:1", "x:99999999"])
def test_an_address_that_is_none_is_refused(tmp_path, address):
    with pytest.raises(Refused, match="HOST:PORT"):
        Coordinator(tmp_path / "c").set_up(address, listen="127.0.0.1", names=[], own=None)


def test_commands_before_the_first_start_say_what_to_do(tmp_path):
    with pytest.raises(Refused, match="fedrad serve --address"):
        Coordinator(tmp_path).settings()
    with pytest.raises(Refused, match="needed on the first start"):
        Coordinator(tmp_path).set_up(None, listen="127.0.0.1", names=[], own=None)


def test_a_damaged_list_of_members_is_reported_in_words_by_every_command(coordinator, tmp_path):
    coordinator.members_file.write_text("{")
    for use in (
        coordinator.members,
        lambda: coordinator.revoke("hospital-a"),
        lambda: coordinator.invite("hospital-a", tmp_path / "a.invitation", days=1),
    ):
        with pytest.raises(Refused, match="restore it from a backup"):
            use()
    assert coordinator.members_file.read_text() == "{", "left as it was"
    assert not (tmp_path / "a.invitation").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Hospital-A", "looks like 'hospital-a', another site"),
        ("hospital_a", "looks like 'hospital-a', another site"),
        ("coordinator", "has a meaning of its own"),
        ("Global", "has a meaning of its own"),
        ("nul", "has a meaning of its own"),
        ("hospitäl-a", "is no name"),
        ("hospital-\u0430", "is no name"),
    ],
)
def test_a_name_that_could_be_taken_for_another_is_not_invited(coordinator, tmp_path, name, why):
    coordinator.invite("hospital-a", tmp_path / "a.invitation", days=1)
    coordinator.revoke("hospital-a")
    with pytest.raises(Refused, match=why):
        coordinator.invite(name, tmp_path / "b.invitation", days=1)
    assert not (tmp_path / "b.invitation").exists()
