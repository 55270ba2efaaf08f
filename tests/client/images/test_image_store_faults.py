"""Full disks, killed processes, files that change: a clear message, and stored images stay."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import lmdb
import numpy as np
import pytest
from support.odd_workers import odd
from support.paths import TESTS
from support.pictures import load, write_pictures

from fedrad.client.images import ImageStore, InputSettings, image_store, worker_processes
from fedrad.client.images.database import RESERVE, Transaction
from fedrad.client.problems import SiteProblem

SMALL, LARGER = InputSettings(size=32), InputSettings(size=128)
MIB = 1 / 1024
FORK = multiprocessing.get_context("fork")
DAY = 86400


@pytest.fixture(scope="module", autouse=True)
def oddly():
    """Workers that decode with `odd`."""
    worker_processes.end_idle_workers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setattr(image_store, "read_file", odd)
        yield
    worker_processes.end_idle_workers()


def elsewhere(work, *arguments):
    """What another process makes of it: its answer, or the problem it had."""
    here, there = FORK.Pipe(duplex=False)

    def tell():
        try:
            there.send(work(*arguments))
        except SiteProblem as problem:
            there.send(problem.args[0])

    process = FORK.Process(target=tell)
    process.start()
    there.close()  # so that its death is seen
    answer = here.recv()
    process.join()
    return answer


def days_later(monkeypatch, days):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + days * DAY)


def stored(at: ImageStore, settings: InputSettings) -> int:
    """Pictures of these settings in a store."""
    with at._database.transaction() as transaction:
        return sum(len(v) == 2 * settings.size**2 for _, v in transaction.items("pictures"))


def size(at: ImageStore) -> int:
    return (at.folder / "data.mdb").stat().st_size


# At the bound


def test_at_the_bound_the_pictures_unused_for_longest_are_dropped_and_no_more(
    tmp_path, monkeypatch
):
    files = write_pictures(tmp_path / "a", 300)
    at = ImageStore(tmp_path / "store", limit_gib=8 * MIB, workers=1)
    load(at, files[:90], LARGER)
    with monkeypatch.context() as later:
        days_later(later, 4)
        load(at, files[90:190], LARGER)
    days_later(monkeypatch, 8)
    load(at, files[190:280], LARGER)
    left = stored(at, LARGER) - 190
    assert 0 < left < 90
    assert size(at) <= 8 * 2**20 + RESERVE
    assert load(at, files[90:280], LARGER)[2] == 0
    load(at, files[280:], LARGER)
    assert stored(at, LARGER) == left + 210, "free pages within the file are room"


def test_room_is_made_for_large_pictures_among_small_ones(tmp_path, monkeypatch):
    files = write_pictures(tmp_path / "a", 300)
    at = ImageStore(tmp_path / "store", limit_gib=5 * MIB, workers=1)
    load(at, files)
    days_later(monkeypatch, 8)
    pictures, readings, _ = load(at, files[:100], LARGER)
    assert all(r.unusable is None for r in readings)
    assert (pictures.astype(np.float32).std(axis=(1, 2)) > 0).all()


def test_where_nothing_may_be_dropped_the_setting_is_named_and_all_stays(tmp_path):
    files = write_pictures(tmp_path / "a", 200)
    at = ImageStore(tmp_path / "store", limit_gib=5 * MIB, workers=1)
    load(at, files[:100], LARGER)
    with pytest.raises(SiteProblem, match=r"limit of 0\.00488 GiB is reached.*images_gib"):
        load(at, files[100:], LARGER)
    assert load(at, files[:100], LARGER)[2] == 0


def test_a_process_reads_on_while_another_with_a_higher_limit_writes(tmp_path):
    files = write_pictures(tmp_path / "a", 400)
    at = ImageStore(tmp_path / "store", limit_gib=1 * MIB, workers=1)
    images, _ = at.load(files[:5], SMALL)
    before = images[:]
    other = ImageStore(at.folder, limit_gib=64 * MIB, workers=1)
    assert elsewhere(lambda: load(other, files, LARGER)[2]) == 400
    assert size(at) > 2**20 + RESERVE
    np.testing.assert_array_equal(images[:], before)


# Disks and folders


def limited(folder, files, limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return load(ImageStore(folder, workers=1), files, LARGER)[2]


def test_a_disk_that_takes_no_more_loses_nothing(tmp_path):
    """A limit on the size of files stands for the full disk; see the slow test."""
    files = write_pictures(tmp_path / "a", 60)
    at = ImageStore(tmp_path / "store", workers=1)
    load(at, files[:10], LARGER)
    output = elsewhere(limited, at.folder, files, 2**20)
    assert "decoded images cannot be kept" in output
    assert "what was kept before is whole. Free space there" in output
    assert load(at, files[:10], LARGER)[2] == 0
    pictures, _, _ = load(at, files, LARGER)
    np.testing.assert_array_equal(pictures, load(at, files, LARGER)[0])


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        files = write_pictures(tmp_path / "a", 100)
        load(ImageStore(disk / "store", workers=1), files[:10], LARGER)
        output = elsewhere(load, ImageStore(disk / "store", workers=1), files, LARGER)
        assert "decoded images cannot be kept" in output
        again = elsewhere(load, ImageStore(disk / "store", workers=1), files[:10], LARGER)
        assert again[2] == 0
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def as_nobody(folder, files):
    if os.geteuid() == 0:  # root may write anywhere
        os.setuid(65534)
    return load(ImageStore(folder, workers=1), files)


def test_an_unwritable_folder_is_named(tmp_path):
    files = write_pictures(tmp_path / "a", 1)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        output = elsewhere(as_nobody, Path(folder), files)
        assert f"{folder}: decoded images cannot be kept" in output
        assert "Permission denied" in output
        assert "`state` in site.toml" in output
    (tmp_path / "file").touch()
    with pytest.raises(SiteProblem, match="decoded images cannot be kept"):
        load(ImageStore(tmp_path / "file" / "store", workers=1), files)


def test_a_damaged_store_is_an_error_with_a_remedy(tmp_path):
    files = write_pictures(tmp_path / "a", 1)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(SiteProblem, match=r"is damaged .*delete the folder"):
        load(ImageStore(tmp_path / "store", workers=1), files)


# Files


def test_a_file_that_vanishes_or_changes_while_it_is_read_is_not_kept(tmp_path):
    files = write_pictures(tmp_path / "a", 6)
    other = write_pictures(tmp_path / "b", 1, seed=1)[0]
    Path(f"{files[1]}.odd").write_text("vanish")
    Path(f"{files[3]}.odd").write_text("change")
    shutil.copy(other, f"{files[3]}.new")
    at = ImageStore(tmp_path / "store", workers=1)
    pictures, readings, _ = load(at, files)
    assert {n: r.unusable for n, r in enumerate(readings) if r.unusable} == {
        1: "cannot be opened (No such file or directory)",
        3: "changed while being read; start again",
    }
    assert (pictures[[1, 3]] == -1024).all()
    again, readings, decoded = load(at, files)
    assert decoded == 1
    assert readings[1].unusable == "cannot be opened, or vanished while being read"
    np.testing.assert_array_equal(again[3], load(at, [other])[0][0])
    np.testing.assert_array_equal(again[[0, 2, 4, 5]], pictures[[0, 2, 4, 5]])


def test_a_file_on_which_the_decoder_crashed_is_tried_again_a_day_later(tmp_path, monkeypatch):
    files = write_pictures(tmp_path / "a", 4)
    note = Path(f"{files[2]}.odd")
    note.write_text("crash")
    at = ImageStore(tmp_path / "store", workers=1)
    _, readings, _ = load(at, files)
    assert readings[2].unusable == "the decoder crashed (SIGSEGV)"
    note.unlink()
    assert load(at, files)[2] == 0
    days_later(monkeypatch, image_store.RETRY_HOURS / 24 + 0.01)
    _, readings, decoded = load(at, files)
    assert (readings[2].unusable, decoded) == (None, 1)


def test_a_file_changed_with_its_times_set_back_is_read_anew(tmp_path):
    (file,) = write_pictures(tmp_path / "a", 1)
    at = ImageStore(tmp_path / "store", workers=1)
    first, _, _ = load(at, [file])
    before = file.stat()
    data = bytearray(file.read_bytes())
    (other,) = write_pictures(tmp_path / "b", 1, seed=1)
    new = other.read_bytes()
    file.write_bytes(new[: len(data)].ljust(len(data), b"\0"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    second, _, decoded = load(at, [file])
    assert decoded == 1
    assert (first != second).any()


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_in_a_folder_with_broken_files_the_good_ones_stay(tmp_path, count):
    files = write_pictures(tmp_path / "a", count)
    broken = range(5, count, 33)
    kinds = (b"", b"no image", files[0].read_bytes()[:200], b"\0" * 128 + b"DICM" + b"\xff" * 90)
    for n, at in enumerate(broken):
        files[at].write_bytes(kinds[n % len(kinds)])
    at = ImageStore(tmp_path / "store", workers=2)
    pictures, readings, decoded = load(at, files)
    assert decoded == count - len(broken) + len(kinds), "equal files are read once"
    reasons = {n: r.unusable for n, r in enumerate(readings) if r.unusable is not None}
    assert list(reasons) == list(broken)
    assert {text.split(":")[0] for text in reasons.values()} == {
        "empty file",
        "no DICOM, PNG or JPEG file",
        "no readable picture",
        "holds no pixel data (cut off, or a report, plan or index)",
    }
    good = np.setdiff1d(np.arange(count), broken)
    assert (pictures[good].astype(np.float32).std(axis=(1, 2)) > 0).all()
    assert load(at, files)[2] == 0


# Processes that end


def test_an_interrupted_load_goes_on_where_it_stopped(tmp_path):
    """As by Ctrl-C; tests/test_checks.py presses it on a terminal."""
    files = write_pictures(tmp_path / "a", 400)
    at = ImageStore(tmp_path / "store", workers=1)
    reached = FORK.Event()

    def until_interrupted(done, _):
        if done == 20:
            reached.set()
            time.sleep(60)

    def interruptible():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
        at.load(files, SMALL, until_interrupted)

    process = FORK.Process(target=interruptible)
    process.start()
    assert reached.wait(60)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode != 0
    before = stored(at, SMALL)
    assert 20 <= before < 400
    pictures, readings, decoded = load(at, files)
    assert decoded == 400 - before
    assert all(r.unusable is None for r in readings)
    fresh = load(ImageStore(tmp_path / "other", workers=1), files)[0]
    np.testing.assert_array_equal(pictures, fresh)


def test_an_interrupted_look_through_new_files_goes_on_too(tmp_path, monkeypatch):
    monkeypatch.setattr(image_store, "CHUNK", 4)
    files = write_pictures(tmp_path / "a", 10)
    at = ImageStore(tmp_path / "store", workers=1)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at.load(files, SMALL, comparing=stop)
    calls = []
    at.load(files, SMALL, comparing=lambda *n: calls.append(n))
    at.load(files, SMALL, comparing=stop)
    assert calls == [(4, 6), (6, 6)]


def stop_in_the_middle(folder, files, reached):
    """Write some pictures of a batch, then stand still within the transaction."""
    put, pictures = Transaction.put, []

    def put_some(self, table, key, value):
        put(self, table, key, value)
        pictures.append(table == "pictures")
        if sum(pictures) == 5:
            reached.set()
            time.sleep(600)

    Transaction.put = put_some
    load(ImageStore(folder, workers=1), files)


def test_a_process_killed_while_it_writes_leaves_no_half_entry_and_no_lock(tmp_path):
    files = write_pictures(tmp_path / "a", 40)
    at = ImageStore(tmp_path / "store", workers=1)
    load(at, files[:4])
    reached = FORK.Event()
    victim = FORK.Process(target=stop_in_the_middle, args=(at.folder, files, reached))
    victim.start()
    assert reached.wait(60)
    other = FORK.Process(target=load, args=(at, files))  # waits for the writer
    other.start()
    time.sleep(0.3)
    victim.kill()
    victim.join()
    other.join(60)
    assert other.exitcode == 0
    with at._database.transaction() as transaction:
        tables = [{key for key, _ in transaction.items(t)} for t in ("pictures", "readings")]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 40
    assert load(at, files)[2] == 0


def test_a_limit_is_lmdbs_own_word_too(tmp_path):
    """Whoever writes past the limit is stopped by the map itself."""
    at = ImageStore(tmp_path / "store", limit_gib=1 * MIB)
    with pytest.raises(lmdb.MapFullError):
        at._database.put("uids", [(str(n).encode(), bytes(2**16)) for n in range(200)])
    assert size(at) <= 2**20 + RESERVE
