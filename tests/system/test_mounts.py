"""A database that processes share needs a file system on which locks and shared memory hold."""

import pytest
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.images.database import Database
from fedrad.client.problems import SiteProblem
from fedrad.system import mounts

LOCAL = ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs", "fuse.fuse-overlayfs"]
NETWORK = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "fuse.sshfs", "fuse.grpcfuse"]


@pytest.fixture
def mounted(monkeypatch, tmp_path):
    """Says that a folder with a blank in its name is a mount of a kind. Returns the folder."""

    def mount(kind: str, *more: str):
        folder = tmp_path / "hospital share"
        folder.mkdir(mode=0o700, exist_ok=True)
        escaped = str(folder).replace(" ", "\\040")
        lines = ["1 0 8:1 / / rw - ext4 /dev/sda1 rw", *more]
        lines.append(f"2 1 0:50 / {escaped} rw,relatime - {kind} server:/export rw,vers=4.2")
        (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
        return folder

    return mount


@pytest.mark.parametrize("kind", LOCAL)
def test_a_disk_of_this_machine_is_taken(mounted, kind):
    assert mounts.sharing_fault(mounted(kind) / "state" / "images") is None


@pytest.mark.parametrize("kind", NETWORK)
def test_a_network_file_system_is_refused_and_named(mounted, kind):
    assert f"({kind})" in mounts.sharing_fault(mounted(kind) / "state")


def test_an_unknown_file_system_is_tried(mounted, monkeypatch):
    folder = mounted("virtiofs")
    assert mounts.sharing_fault(folder) is None
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(mounts, "_TRIAL", mounts._TRIAL.replace("continue", "pass"))
    monkeypatch.setattr(mounts, "_TRIAL", mounts._TRIAL.replace("fcntl.LOCK_EX", "fcntl.LOCK_UN"))
    assert "(virtiofs)" in mounts.sharing_fault(folder)  # a lock that two processes got


def test_the_trial_finds_memory_that_is_not_shared(mounted, monkeypatch):
    folder = mounted("virtiofs")
    private = "mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)"
    monkeypatch.setattr(
        mounts, "_TRIAL", mounts._TRIAL.replace("mmap.mmap(file.fileno(), 0)", private)
    )
    assert not mounts.locks_hold(folder)


def test_of_several_mounts_at_one_place_the_last_counts(mounted, tmp_path):
    escaped = str(tmp_path / "hospital share").replace(" ", "\\040")
    folder = mounted("ext4", f"3 1 0:51 / {escaped} rw - nfs4 server:/a rw")
    assert mounts.sharing_fault(folder) is None


def test_a_link_is_as_local_as_what_it_names(mounted, tmp_path):
    (tmp_path / "link").symlink_to(mounted("nfs4"))
    assert "(nfs4)" in mounts.sharing_fault(tmp_path / "link")


def test_the_mounts_of_this_machine_are_read():
    assert mounts.mount_of(mounts.MOUNTS.parent).kind == "proc"


def test_no_image_is_stored_on_a_network_file_system(mounted):
    folder = mounted("nfs4") / "images"
    with pytest.raises(SiteProblem, match=r"nfs4.*`state` in site\.toml") as raised:
        Database(folder, 2**20).get("files", [b"x"])
    assert raised.value.reason == "storage"
    assert list(folder.iterdir()) == []


def test_a_command_refuses_a_state_folder_on_a_network_file_system(mounted, tmp_path):
    (tmp_path / "site.toml").write_text('name = "a"\n')
    state = mounted("cifs")
    ended = CliRunner().invoke(app, ["policy", "accept", str(tmp_path), "--state", str(state)])
    assert ended.exit_code == 2
    assert "(cifs)" in ended.output
    assert "`state` in site.toml" in ended.output
    assert list(state.iterdir()) == []
