"""Folders follow the XDG Base Directory Specification; a free port can be listened at."""

import socket
from pathlib import Path

import pytest

from fedrad.system.folders import cache_home, state_home
from fedrad.system.ports import free_port


@pytest.mark.parametrize(
    ("folder", "variable", "default"),
    [(state_home, "XDG_STATE_HOME", ".local/state"), (cache_home, "XDG_CACHE_HOME", ".cache")],
)
def test_folders_are_the_users_or_those_of_the_variable(
    monkeypatch, tmp_path, folder, variable, default
):
    monkeypatch.setenv(variable, str(tmp_path))
    assert folder() == tmp_path / "fedrad"
    monkeypatch.setenv(variable, "")  # an empty variable counts as unset
    assert folder() == Path.home() / default / "fedrad"
    monkeypatch.delenv(variable)
    assert folder() == Path.home() / default / "fedrad"


def test_a_free_port_can_be_listened_at():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()
