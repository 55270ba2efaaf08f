"""The site's store of decoded images: each file is decoded and resized once.

An LMDB database in the site's state folder: memory-mapped, one writer and many readers at a time
across processes, never half-written (copy-on-write pages), bounded by its map size. Keys are the
SHA-256 of a file's bytes with the settings that made the picture, so a renamed or copied file is
not decoded again and a changed one is. What names a file is kept only as a digest.
"""

import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from fedrad.client.problems import SiteProblem
from fedrad.models.settings import InputSettings

from .contained import Failure, run
from .lungs import PSPNET, pspnet_folder
from .reading import Reading
from .work import file_digest, file_uid, read_file

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all."""

CHAIN = 2
"""Version of `chain.read_radiograph`. Raised whenever its pictures change, so that none made the
old way is taken for a new one."""

COMMIT_SECONDS = 1.0
"""Results are written together this often; what is lost by a killed process is decoded again."""
KEPT_DAYS = 7
"""Pictures used within this time are never dropped to make room."""
RETRY_HOURS = 24
"""A file that crashed, hung or outgrew its worker is tried again after this time."""

_DAY = 86400.0


class StoredImages:
    """Pictures of some files, read from the store when asked for.

    Array-like: `images[rows]`, rows an int64 array or a slice, is (n, size, size) float16 in
    [-1024, 1024], a copy. Files that could not be used are black.
    """

    def __init__(self, folder: Path, size: int, keys: Sequence[bytes]) -> None:
        self._folder, self.size, self._keys = folder, size, keys

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._keys)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(number of pictures, size, size)."""
        return len(self), self.size, self.size

    @property
    def keys(self) -> list[str]:
        """What identifies each picture: content of its file and settings; "" for unusable."""
        return [key.hex() for key in self._keys]

    def select(self, rows: NDArray[np.int64] | Sequence[int]) -> "StoredImages":
        """Some of the pictures, without reading them."""
        return StoredImages(self._folder, self.size, [self._keys[int(row)] for row in rows])

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float16]:
        """Read some pictures. Raises SiteProblem("storage") where the store lost one."""
        keys = self._keys[rows] if isinstance(rows, slice) else [self._keys[int(r)] for r in rows]
        pictures = np.full((len(keys), self.size, self.size), -1024, np.float16)
        environment = _environment(self._folder)
        with environment.begin(_database(environment, "pictures"), buffers=True) as transaction:
            for picture, key in zip(pictures, keys, strict=True):
                if key:
                    found = transaction.get(key)
                    if found is None:
                        raise SiteProblem(
                            "storage", f"{self._folder}: a picture was dropped while in use; raise "
                            "images_gib in site.toml",
                        )  # fmt: skip
                    picture[:] = np.frombuffer(found, np.float16).reshape(picture.shape)
        return pictures


class ImageStore:
    """The store in a folder, at most `limit_gib` GiB large. `workers`: 0 for one per core.

    The folder must be on a local disk: LMDB's locks do not hold over network file systems.
    """

    def __init__(self, folder: Path, *, limit_gib: float = 50.0, workers: int = 0) -> None:
        self.folder, self.workers = folder, workers
        self._limit = int(limit_gib * 2**30)

    def load(
        self, files: Sequence[Path], settings: InputSettings, progress: Progress | None = None
    ) -> tuple[StoredImages, list[Reading]]:
        """Pictures and readings of some files, in their order; decodes what is not there yet.

        A bad file raises nothing: its reading says why it is unusable. An interrupted call leaves
        what it had decoded. Raises SiteProblem: "storage" for a full disk, a folder that cannot
        be written, or a limit below what these files need; "weights" where region =
        "lungs-pspnet" and its weights are not at hand.
        """
        pspnet = None
        if settings.region == "lungs-pspnet":
            folder = pspnet_folder()
            if folder is None:
                raise SiteProblem(
                    "weights", f'region = "lungs-pspnet", but {PSPNET} is not at hand: put '
                    "torchxrayvision's file into a folder of FEDRAD_WEIGHTS",
                )  # fmt: skip
            pspnet = str(folder)
        with self._problems():
            contents = self._contents(files)
            suffix = _digest_of(settings)
            keys = [content + suffix if content else b"" for content in contents]
            known = self._readings([key for key in keys if key])
            self._mark_used(list(known))  # before others are decoded, which may need room
            missing = {
                content: file
                for file, content in zip(files, contents, strict=True)
                if content and content + suffix not in known
            }
            self._expect_room(len(set(contents)), settings.size)
            if missing:
                known |= self._decode(missing, settings, suffix, pspnet, progress)
        unopened = Reading("", unusable="cannot be opened, or vanished while being read")
        readings = [known.get(key, unopened) for key in keys]
        usable = [
            key if reading.unusable is None else b""
            for key, reading in zip(keys, readings, strict=True)
        ]
        return StoredImages(self.folder, settings.size, usable), readings

    def instance_uids(self, files: Sequence[Path], progress: Progress | None = None) -> list[str]:
        """SOPInstanceUID of each file, "" where it has none; remembered by content."""
        with self._problems():
            contents = self._contents(files)
            with self._reading("uids") as transaction:
                known = {c: transaction.get(c) for c in contents if c}
            missing = {
                c: file for file, c in zip(files, contents, strict=True) if c and known[c] is None
            }
            found: list[tuple[bytes, bytes]] = []
            order = list(missing)
            items = [(str(missing[c]),) for c in order]
            for done, (item, uid) in enumerate(run(file_uid, items, workers=self.workers), 1):
                found.append((order[item], b"" if isinstance(uid, Failure) else uid.encode()))
                if progress:
                    progress(done, len(items))
            self._write("uids", found)
        known |= dict(found)
        return [(known.get(c) or b"").decode() for c in contents]

    # Parts of these

    def _contents(self, files: Sequence[Path]) -> list[bytes]:
        """SHA-256 of each file's bytes, b"" where it cannot be read. A file whose path, size and
        time are known is not read again, as in git."""
        marks = [_mark(file) for file in files]
        with self._reading("files") as transaction:
            contents = [transaction.get(mark) if mark else b"" for mark in marks]
        unknown = [row for row, content in enumerate(contents) if content is None]
        with ThreadPoolExecutor(4) as pool:
            digests = list(pool.map(file_digest, [files[row] for row in unknown]))
        for row, digest in zip(unknown, digests, strict=True):
            contents[row] = digest
        self._write("files", [(marks[r], d) for r, d in zip(unknown, digests, strict=True) if d])
        return [content or b"" for content in contents]

    def _readings(self, keys: Sequence[bytes]) -> dict[bytes, Reading]:
        """What is known of these keys, but for failures that are due to be tried again."""
        known = {}
        now = time.time()
        with self._reading("readings") as transaction:
            for key in set(keys):
                found = transaction.get(key)
                if found is not None:
                    (retry,) = struct.unpack_from("<d", found)
                    if now < retry:
                        known[key] = Reading.from_json(json.loads(found[8:]))
        return known

    def _decode(
        self,
        missing: dict[bytes, Path],
        settings: InputSettings,
        suffix: bytes,
        pspnet: str | None,
        progress: Progress | None,
    ) -> dict[bytes, Reading]:
        readings: dict[bytes, Reading] = {}
        batch: list[tuple[bytes, bytes, bytes | None]] = []
        order, written = list(missing), time.monotonic()
        items = [(str(missing[content]), settings, pspnet) for content in order]
        results = run(read_file, items, workers=self.workers)
        try:
            for done, (item, result) in enumerate(results, start=1):
                content, picture, retry = order[item], None, float("inf")
                if isinstance(result, Failure):
                    reading = Reading(content.hex(), unusable=result.reason)
                    retry = time.time() + RETRY_HOURS * 3600
                else:
                    reading, picture = result
                same = reading.content == content.hex()
                if not same and reading.content:
                    reading = Reading("", unusable="changed while being read; start again")
                readings[content + suffix] = reading
                if same:  # else it changed or vanished meanwhile
                    value = struct.pack("<d", retry) + json.dumps(reading.to_json()).encode()
                    batch.append((content + suffix, value, picture))
                if time.monotonic() - written > COMMIT_SECONDS:
                    self._keep(batch)
                    batch, written = [], time.monotonic()
                if progress:
                    progress(done, len(items))
        finally:
            results.close()
            self._keep(batch)
        return readings

    def _keep(self, batch: list[tuple[bytes, bytes, bytes | None]]) -> None:
        size = sum(len(picture) for _, _, picture in batch if picture)
        self._make_room(size)
        environment = self._open()
        databases = {n: _database(environment, n) for n in ("readings", "pictures", "used")}
        now = struct.pack("<d", time.time())
        with environment.begin(write=True) as transaction:
            for key, reading, picture in batch:
                if picture is not None:
                    transaction.put(key, picture, db=databases["pictures"])
                transaction.put(key, reading, db=databases["readings"])
                transaction.put(key, now, db=databases["used"])

    def _expect_room(self, count: int, size: int) -> None:
        need = count * _pages(size * size * 2)
        if need > 0.9 * self._limit:
            raise SiteProblem(
                "storage",
                f"{self.folder}: the limit of {self._limit / 2**30:.3g} GiB is too small for "
                f"{count} images of {size} px, which need {need / 2**30:.3g} GiB: raise "
                "images_gib in site.toml",
            )

    def _make_room(self, size: int) -> None:
        """Where space runs out, drop pictures that were not used for KEPT_DAYS, oldest first."""
        environment = self._open()
        info, page = environment.info(), environment.stat()["psize"]
        room = self._limit - (info["last_pgno"] + 1) * page
        if room > 2 * _pages(size) + 2**22:
            return
        used, pictures = (_database(environment, n) for n in ("used", "pictures"))
        limit = time.time() - KEPT_DAYS * _DAY
        with environment.begin(write=True) as transaction:
            old = [
                (stamp, bytes(key))
                for key, value in transaction.cursor(used)
                if (stamp := struct.unpack("<d", value)[0]) < limit
            ]
            freed = 0
            for _, key in sorted(old):
                if freed > 4 * size + 2**24:
                    break
                picture = transaction.get(key, db=pictures)
                freed += len(picture or b"")
                for name in ("used", "pictures", "readings"):
                    transaction.delete(key, db=_database(environment, name))

    def _mark_used(self, keys: Sequence[bytes]) -> None:
        """Once a day is often enough to know what is in use."""
        now = time.time()
        with self._reading("used") as transaction:
            stale = [
                key
                for key in set(keys)
                if (v := transaction.get(key)) is None or now - struct.unpack("<d", v)[0] > _DAY
            ]
        self._write("used", [(key, struct.pack("<d", now)) for key in stale])

    def _open(self) -> lmdb.Environment:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = _environment(self.folder)
        if environment.info()["map_size"] < self._limit:
            environment.set_mapsize(self._limit)
        return environment

    @contextmanager
    def _reading(self, database: str) -> "Iterator[lmdb.Transaction[bytes]]":
        environment = self._open()
        with environment.begin(_database(environment, database)) as transaction:
            yield transaction

    def _write(self, database: str, entries: Sequence[tuple[bytes, bytes]]) -> None:
        if entries:
            environment = self._open()
            with environment.begin(_database(environment, database), write=True) as transaction:
                for key, value in entries:
                    transaction.put(key, value)

    @contextmanager
    def _problems(self) -> Iterator[None]:
        """Say what a person can do about a full or unwritable disk."""
        try:
            yield
        except lmdb.MapFullError as error:
            raise SiteProblem(
                "storage",
                f"{self.folder}: its limit of {self._limit / 2**30:.3g} GiB is reached and nothing "
                f"in it has been unused for {KEPT_DAYS} days: raise images_gib in site.toml",
            ) from error
        except (lmdb.Error, OSError) as error:
            raise SiteProblem(
                "storage",
                f"{self.folder}: decoded images cannot be kept ({error}); what was kept before is "
                "whole. Free space there, or name another folder as `state` in site.toml",
            ) from error


_opened: dict[tuple[int, int, int], lmdb.Environment] = {}
_opening = Lock()


def _environment(folder: Path) -> lmdb.Environment:
    """One handle a process and file, as LMDB demands, however the path is written; a forked
    process opens its own, and so does one whose folder was deleted and made again."""
    with _opening:
        for inherited in [key for key in _opened if key[0] != os.getpid()]:
            _opened.pop(inherited).close()  # forked: LMDB wants a handle of one's own
        key = _identity(folder)
        if key is None or key not in _opened:
            environment = lmdb.open(
                str(folder), map_size=2**20, max_dbs=5, mode=0o600, metasync=False,
                readahead=False, max_readers=1024,
            )  # fmt: skip
            environment.reader_check()  # a killed reader would keep freed pages from being used
            key = _identity(folder)
            assert key is not None
            _opened[key] = environment
        return _opened[key]


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(folder / "data.mdb")
    except FileNotFoundError:
        return None
    return os.getpid(), status.st_dev, status.st_ino


@cache
def _database(environment: lmdb.Environment, name: str) -> Any:  # its type is private to lmdb
    return environment.open_db(name.encode())


def _mark(file: Path) -> bytes:
    """Digest of path, size and time of a file; b"" where it is no readable file."""
    try:
        status = os.stat(file)
    except OSError:
        return b""
    return sha256(f"{file}|{status.st_size}|{status.st_mtime_ns}".encode(errors="replace")).digest()


def _digest_of(settings: InputSettings) -> bytes:
    return sha256(f"{CHAIN}{settings.model_dump_json()}".encode()).digest()[:8]


def _pages(size: int) -> int:
    """Bytes that LMDB takes for a value, in pages of 4 KiB."""
    return (size + 16 + 4095) // 4096 * 4096
