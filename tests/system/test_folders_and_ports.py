"""Folders follow the XDG Base Directory Specification; a free port can be listened at."""

import socket
from pathlib import Path

import pytest

from fedrad.system.errors import UserError
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


@pytest.mark.parametrize("home", [None, ""])
def test_without_a_home_the_places_that_can_be_named_are(monkeypatch, home):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)

    def nameless(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nameless)
    with pytest.raises(UserError, match=r"`state` in site\.toml.*XDG_STATE_HOME.*HOME"):
        state_home()


def test_a_relative_folder_for_state_is_refused(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    with pytest.raises(UserError, match="XDG_STATE_HOME is 'here'"):
        state_home()
