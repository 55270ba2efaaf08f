"""Each key can have a passphrase, and can be replaced by another as docs/keys.md says."""

import os
import ssl
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from typer.testing import CliRunner

from fedrad.client.commands.main import app as site_app
from fedrad.client.node import service
from fedrad.client.policy.integrity import prepare_start
from fedrad.client.policy.membership import read_membership
from fedrad.client.policy.node_key import has_passphrase, openssh, read_key, set_passphrase
from fedrad.client.policy.officer_key import OfficerKey, check_key, pinned_key
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.deploy.commands.main import app
from fedrad.deploy.coordinator import folder as coordinator_folder
from fedrad.deploy.coordinator.authority import end_of, is_locked
from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.deploy.coordinator.keys import ServerKey, change_passphrase, locked_keys
from fedrad.deploy.refused import Refused
from fedrad.flower.internals import PARTS, load
from fedrad.system.secrets import SecretError, memory_file

PASSPHRASE, OTHER = b"five hospitals and a lake", b"another one of the centre"


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    here = Coordinator(tmp_path / "coordinator")
    set_up(here)
    return here


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "hospital"
    folder.mkdir()
    (folder / "site.toml").write_text('name = "hospital"\n[policy]\ncolumns = ["label"]\n')
    return open_site(folder, state=tmp_path / "state")


def set_up(coordinator: Coordinator):
    return coordinator.set_up("localhost:8000", listen="127.0.0.1", names=[], own=None)


def descriptor(content: bytes) -> str:
    there, here = os.pipe()
    os.write(here, content + b"\n")
    os.close(here)
    return str(there)


def run(of, *arguments: object, answer: str = "", status: int = 0) -> str:
    ended = CliRunner().invoke(of, [str(argument) for argument in arguments], input=answer)
    assert ended.exit_code == status, (ended.output, ended.exception)
    return ended.output


def join(site: Site, coordinator: Coordinator, root: Path, *options: str) -> None:
    """The way of an invitation, by the commands of both sides."""
    invitation, request = root / "site.invitation", root / "site.request"
    for file in (invitation, request):
        file.unlink(missing_ok=True)
    at = ["--coordinator", coordinator.folder]
    run(app, "invite", site.name, "--to", invitation, *at)
    shown = coordinator_folder.Invitation.read(invitation).fingerprint()
    state = ["--state", site.state]
    output = run(
        site_app, "join", invitation, site.folder, "--request", request, "--fingerprint", shown,
        *state, *options,
    )  # fmt: skip
    read_out = next(line.strip() for line in output.splitlines() if line.startswith("    "))
    run(app, "sites", "admit", request, "--fingerprint", read_out, *at)


def trusts(certificate: Path, key: str, authority: Path) -> bool:
    """Whether a server with this certificate is trusted by those who trust the authority."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    made, by = (x509.load_pem_x509_certificate(f.read_bytes()) for f in (certificate, authority))
    try:
        made.verify_directly_issued_by(by)
    except InvalidSignature:
        return False
    return True


# The node's key


def test_a_nodes_key_with_a_passphrase_reaches_flower_without_one_in_memory(
    site, coordinator, tmp_path, monkeypatch
):
    join(site, coordinator, tmp_path)
    file = read_membership(site.state).key
    before = file.read_bytes()
    set_passphrase(site.state, PASSPHRASE)
    assert has_passphrase(file)
    given = []
    monkeypatch.setattr(service, "start", lambda *arguments: given.append(arguments[-1]))
    at = [site.folder, "--state", site.state]
    run(site_app, "start", *at, "--passphrase-fd", descriptor(PASSPHRASE))
    assert public(given[0]) == public(before)
    assert has_passphrase(file)
    assert "the passphrase is wrong" in run(
        site_app, "start", *at, "--passphrase-fd", descriptor(OTHER), status=2
    )
    assert "--passphrase-fd" in run(site_app, "start", *at, status=2)
    assert len(given) == 1


def test_flower_reads_a_nodes_key_from_memory():
    key = ec.generate_private_key(ec.SECP384R1())
    with memory_file(openssh(key)) as file:
        given = Namespace(auth_supernode_private_key=file.path, auth_supernode_public_key=None)
        for _ in range(2):  # a node that ended is started again
            read, _ = load(PARTS["_try_setup_client_authentication"])(given)
            assert openssh_public(read) == openssh_public(key)


def public(key: bytes) -> bytes:
    return openssh_public(load_ssh_private_key(key, None))


def openssh_public(key) -> bytes:
    numbers = key.public_key().public_numbers()
    return f"{numbers.x} {numbers.y}".encode()


def test_a_nodes_key_can_come_from_systemd_or_a_descriptor_and_not_be_in_the_folder(
    site, coordinator, tmp_path, monkeypatch
):
    join(site, coordinator, tmp_path)
    kept = tmp_path / "credentials"
    kept.mkdir()
    (site.state / "node.key").rename(kept / "node.key")
    with pytest.raises(SiteProblem, match=r"node\.key: is missing"):
        read_membership(site.state)
    given = []
    monkeypatch.setattr(service, "start", lambda *arguments: given.append(arguments[-1]))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(kept))
    at = [site.folder, "--state", site.state]
    run(site_app, "start", *at)
    other = openssh(ec.generate_private_key(ec.SECP384R1()))
    run(site_app, "start", *at, "--key-fd", descriptor(other))
    assert public(given[0]) == public((kept / "node.key").read_bytes())
    assert public(given[1]) == public(other)


def test_the_command_sets_changes_and_removes_the_passphrase(site, coordinator, tmp_path):
    join(site, coordinator, tmp_path)
    file, before = site.state / "node.key", (site.state / "node.key").read_bytes()
    at = [site.folder, "--state", site.state]
    words = PASSPHRASE.decode()
    run(site_app, "passphrase", *at, answer=f"{words}\n{words}\n")
    key = read_key(file.read_bytes(), "node.key", lambda: PASSPHRASE)
    assert openssh_public(key) == public(before)
    with pytest.raises(SecretError, match="the node's key has a passphrase"):
        set_passphrase(site.state, None)
    with pytest.raises(SiteProblem, match="the passphrase is wrong"):
        set_passphrase(site.state, None, lambda: OTHER)
    set_passphrase(site.state, None, lambda: PASSPHRASE)
    assert public(file.read_bytes()) == public(before)


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN OPENSSH PRIVATE KEY-----\nx"])
def test_what_is_no_key_is_said_to_be_none(content):
    with pytest.raises(SiteProblem, match="it is no key of a node"):
        read_key(content, "node.key")


def test_a_key_of_another_curve_is_refused_as_no_coordinator_lets_it_in():
    with pytest.raises(SiteProblem, match="P-384"):
        read_key(openssh(ec.generate_private_key(ec.SECP256R1())), "node.key")


def test_rotation_of_a_nodes_key(site, coordinator, tmp_path):
    join(site, coordinator, tmp_path)
    before = (site.state / "node.key").read_bytes()
    run(app, "sites", "--coordinator", coordinator.folder, "revoke", site.name)
    join(site, coordinator, tmp_path, "--new-key")
    assert public((site.state / "node.key").read_bytes()) != public(before)
    members = coordinator.members()
    assert [m.status for m in members.sites if m.site == site.name].count("admitted") == 1
    prepare_start(site, "engineer")


# The coordinator's keys


def test_a_coordinators_keys_have_one_passphrase_and_the_servers_is_read_from_memory(coordinator):
    folder, settings = coordinator.folder, coordinator.settings()
    assert locked_keys(folder, None) == []
    assert ServerKey(folder, None, None).path == str(folder / "server.key")
    change_passphrase(folder, None, PASSPHRASE)
    assert locked_keys(folder, None) == [folder / "ca.key", folder / "server.key"]
    key = ServerKey(folder, None, PASSPHRASE)
    assert trusts(folder / "server.crt", key.path, folder / "ca.crt")
    (folder / "server.crt").unlink()  # as if it ended soon
    unlocked = Coordinator(folder, PASSPHRASE)
    assert unlocked.renew(settings)
    assert is_locked((folder / "server.key").read_bytes())
    key.refresh()
    assert trusts(folder / "server.crt", key.path, folder / "ca.crt")


def test_a_wrong_passphrase_changes_no_key(coordinator):
    folder = coordinator.folder
    change_passphrase(folder, None, PASSPHRASE)
    before = [(folder / name).read_bytes() for name in ("ca.key", "server.key")]
    with pytest.raises(Refused, match=r"ca\.key: cannot be read: the passphrase is wrong"):
        change_passphrase(folder, OTHER, None)
    assert [(folder / name).read_bytes() for name in ("ca.key", "server.key")] == before
    change_passphrase(folder, PASSPHRASE, None)
    assert locked_keys(folder, None) == []


def test_serve_asks_for_the_passphrase_and_does_not_start_without(coordinator):
    change_passphrase(coordinator.folder, None, PASSPHRASE)
    output = run(app, "serve", "--coordinator", coordinator.folder, status=2)
    assert "coordinator.passphrase" in output


def test_an_authority_that_is_made_with_a_passphrase_is_never_without_it(tmp_path):
    folder, words = tmp_path / "coordinator", PASSPHRASE.decode()
    run(app, "passphrase", "--coordinator", folder, answer=f"{words}\n{words}\n")
    assert is_locked((folder / "ca.key").read_bytes())
    set_up(Coordinator(folder, PASSPHRASE))
    load_pem_private_key((folder / "server.key").read_bytes(), PASSPHRASE)


def test_an_authority_that_is_kept_offline_is_missed_only_when_a_certificate_must_be_made(
    coordinator, tmp_path, caplog, monkeypatch
):
    caplog.set_level("WARNING", "fedrad.server")
    folder = coordinator.folder
    (folder / "ca.key").rename(tmp_path / "ca.key")
    set_up(coordinator)
    assert caplog.text == ""
    now = [datetime.now(UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, zone=None):
            return now[0]

    for module in ("authority", "folder"):
        monkeypatch.setattr(f"fedrad.deploy.coordinator.{module}.datetime", Clock)
    now[0] = end_of(folder / "server.crt") - timedelta(days=3)
    set_up(coordinator)
    assert "server.crt ends on" in caplog.text
    now[0] += timedelta(days=4)
    with pytest.raises(Refused, match="If the key is kept elsewhere, put it there"):
        set_up(coordinator)
    (tmp_path / "ca.key").rename(folder / "ca.key")
    set_up(coordinator)
    assert end_of(folder / "server.crt") > now[0]


def test_rotation_of_the_servers_certificate(coordinator):
    folder, settings = coordinator.folder, coordinator.settings()
    before = [(folder / name).read_bytes() for name in ("server.crt", "server.key", "ca.crt")]
    for name in ("server.crt", "server.key"):
        (folder / name).unlink()
    assert coordinator.renew(settings)
    after = [(folder / name).read_bytes() for name in ("server.crt", "server.key", "ca.crt")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]
    assert trusts(folder / "server.crt", str(folder / "server.key"), folder / "ca.crt")


def test_rotation_of_the_authority(coordinator, site, tmp_path):
    join(site, coordinator, tmp_path)
    known = read_membership(site.state).ca.read_bytes()
    folder, old = coordinator.folder, tmp_path / "old"
    old.mkdir()
    for name in ("ca", "server"):
        for ending in ("crt", "key"):
            if (file := folder / f"{name}.{ending}").exists():
                file.rename(old / file.name)
    set_up(coordinator)
    assert not trusts(folder / "server.crt", str(folder / "server.key"), old / "ca.crt")
    run(app, "sites", "--coordinator", folder, "revoke", site.name)
    join(site, coordinator, tmp_path, "--new-key")
    ca = read_membership(site.state).ca
    assert ca.read_bytes() != known
    assert trusts(folder / "server.crt", str(folder / "server.key"), ca)


# The officer's key


def test_rotation_of_the_officers_key(site, coordinator, tmp_path):
    join(site, coordinator, tmp_path)
    first, second = tmp_path / "first.key", tmp_path / "second.key"
    words = [f"the {name} stick in the safe" for name in ("first", "second")]
    at = [site.folder, "--state", site.state]
    run(site_app, "officer", "init", *at, "--key", first, answer=f"{words[0]}\n{words[0]}\n")
    run(
        site_app, "officer", "init", *at, "--key", second, "--replaces", first,
        answer=f"{words[0]}\n{words[1]}\n{words[1]}\n",
    )  # fmt: skip
    key = OfficerKey.read(second, words[1])
    assert pinned_key(site.state) == key.public
    run(site_app, "policy", "accept", *at, "--yes", "--key", second, answer=f"{words[1]}\n")
    prepare_start(site, "engineer")
    with pytest.raises(SiteProblem, match="not the officer's key"):
        check_key(site.state, OfficerKey.read(first, words[0]))
