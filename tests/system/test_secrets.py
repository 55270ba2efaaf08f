"""Secrets come from a descriptor, from systemd or from the terminal, and never lie on a disk."""

import os
import subprocess
import sys

import pytest

from fedrad.system import secrets
from fedrad.system.secrets import (
    MemoryFile,
    SecretError,
    credential,
    inherited_descriptors,
    passphrase,
    read_descriptor,
)


def descriptor(content: bytes) -> int:
    there, here = os.pipe()
    os.write(here, content)
    os.close(here)
    return there


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def test_a_descriptor_comes_before_systemd_and_systemd_before_the_terminal(systemd, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(secrets.getpass, "getpass", lambda question: "typed")
    assert passphrase("name", "the key") == b"typed"
    (systemd / "name").write_bytes(b"of the service\n")
    assert passphrase("name", "the key") == b"of the service"
    assert passphrase("name", "the key", descriptor(b"of the caller\r\n")) == b"of the caller"


def test_a_secret_that_nobody_gives_is_refused_with_the_ways_to_give_it(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert credential("name") is None
    with pytest.raises(SecretError, match="--passphrase-fd, or as systemd credential 'name'"):
        passphrase("name", "the key")


def test_an_empty_passphrase_or_a_closed_descriptor_is_no_secret():
    with pytest.raises(SecretError, match="is empty"):
        passphrase("name", "the key", descriptor(b"\n"))
    closed = os.open(os.devnull, os.O_RDONLY)
    os.close(closed)
    with pytest.raises(SecretError, match=f"file descriptor {closed} cannot be read"):
        read_descriptor(closed)


def test_a_child_reads_a_key_from_memory_as_often_as_it_likes_and_sees_a_new_one():
    file = MemoryFile(b"first, and longer")
    code = f"print(open({file.path!r}).read()); print(open({file.path!r}).read()); input(); "
    code += f"print(open({file.path!r}).read())"
    with subprocess.Popen(
        [sys.executable, "-uc", code],
        pass_fds=inherited_descriptors(file.path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert [child.stdout.readline() for _ in range(2)] == ["first, and longer\n"] * 2
        file.replace(b"second")
        assert child.communicate("\n")[0] == "second\n"
    file.close()


@pytest.mark.parametrize("path", ["/srv/state/node.key", "/proc/self/fd/", "/proc/self/fd/3/a"])
def test_a_file_on_a_disk_is_no_descriptor(path):
    assert inherited_descriptors(path) == ()


@pytest.mark.parametrize("number", [-1, 2**31, 10**20])
def test_a_number_that_is_no_descriptor_is_said(number):
    with pytest.raises(SecretError, match=f"{number} is no file descriptor"):
        read_descriptor(number)
