"""The site's store of decoded images: each file is decoded and resized once.

Kept in a database of the site's state folder (see `database`). Keys are the SHA-256 of a file's
bytes with the settings that made the picture, so a renamed or copied file is not decoded again and
a changed one is. What names a file is kept only as a digest.
"""

import json
import os
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import lmdb

from fedrad.client.problems import SiteProblem
from fedrad.models.settings import READING_CHAIN, InputSettings

from .database import Database, Table, pages
from .lungs import weights_for
from .reading import Reading
from .single_file import file_digest, file_uid, read_file
from .stored_images import StoredImages
from .worker_processes import Failure, run

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all."""

COMMIT_SECONDS = 1.0
"""Results are written together this often; what is lost by a killed process is decoded again."""
KEPT_DAYS = 7
"""Pictures used within this time are never dropped to make room."""
RETRY_HOURS = 24
"""A file that crashed, hung or outgrew its worker is tried again after this time."""

CHUNK = 256
"""Files after which what was learned of them is written."""
STORED: tuple[Table, ...] = ("pictures", "readings")

_DAY = 86400.0


class ImageStore:
    """The store in a folder, of at most `limit_gib` GiB. `workers`: 0 for one per core.

    The folder must be on a local disk.
    """

    def __init__(self, folder: Path, *, limit_gib: float = 50.0, workers: int = 0) -> None:
        self.folder, self.workers = folder, workers
        self._database = Database(folder, int(limit_gib * 2**30))

    def load(
        self,
        files: Sequence[Path],
        settings: InputSettings,
        progress: Progress | None = None,
        looking: Progress | None = None,
    ) -> tuple[StoredImages, list[Reading]]:
        """Pictures and readings of some files, in their order; decodes what is not there yet.

        `looking` is told how many new files were compared with what is kept, then `progress` how
        many were decoded. A bad file raises nothing: its reading says why it is unusable. An
        interrupted call leaves what it had decoded. Raises SiteProblem: "storage" for a full disk,
        a folder that cannot be written, or a limit below what these files need; "weights" where
        region = "lungs-pspnet" and its weights are not at hand.
        """
        pspnet = weights_for(settings)
        with self._database.problems():
            contents = self._contents(files, looking)
            suffix = _digest_of(settings)
            keys = [content + suffix if content else b"" for content in contents]
            self._mark_used(keys)  # before they are read: another process may be making room
            known = self._readings(keys)
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
        return StoredImages(self._database, settings.size, usable), readings

    def instance_uids(self, files: Sequence[Path], progress: Progress | None = None) -> list[str]:
        """SOPInstanceUID of each file, "" where it has none; remembered by content."""
        with self._database.problems():
            contents = self._contents(files)
            known = self._database.get("uids", contents)
            missing = {c: f for f, c in zip(files, contents, strict=True) if c and c not in known}
            order = list(missing)
            items = [(str(missing[c]),) for c in order]
            found: dict[bytes, bytes] = {}
            results = run(file_uid, items, workers=self.workers)
            for done, (item, uid) in enumerate(results, start=1):
                found[order[item]] = b"" if isinstance(uid, Failure) else uid.encode()
                if len(found) == CHUNK or done == len(items):
                    self._database.put("uids", found.items())
                    known |= found
                    found = {}
                if progress:
                    progress(done, len(items))
        return [known.get(c, b"").decode() for c in contents]

    # Parts of these

    def _contents(self, files: Sequence[Path], looking: Progress | None = None) -> list[bytes]:
        """SHA-256 of each file's bytes, b"" where it cannot be read. A file whose path, size and
        times are known is not read again, as in git."""
        marks = [_mark(file) for file in files]
        known = self._database.get("files", marks)
        unknown = [(m, f) for m, f in zip(marks, files, strict=True) if m and m not in known]
        with ThreadPoolExecutor(4) as pool:
            for start in range(0, len(unknown), CHUNK):  # so an interruption loses little
                chunk = unknown[start : start + CHUNK]
                digests = pool.map(file_digest, [file for _, file in chunk])
                found = {m: d for (m, _), d in zip(chunk, digests, strict=True) if d}
                self._database.put("files", found.items())
                known |= found
                if looking:
                    looking(start + len(chunk), len(unknown))
        return [known.get(mark, b"") for mark in marks]

    def _readings(self, keys: Sequence[bytes]) -> dict[bytes, Reading]:
        """What is known of these keys, but for failures that are due to be tried again."""
        known = {}
        for key, found in self._database.get("readings", set(keys)).items():
            (retry,) = struct.unpack_from("<d", found)
            if time.time() < retry:
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
        """Write key, reading and picture of some files. Raises lmdb.MapFullError where there is no
        room for them and none can be made."""
        if not batch:
            return
        need = sum(pages(len(picture)) + len(reading) for _, reading, picture in batch if picture)
        now = struct.pack("<d", time.time())
        while True:
            try:
                with self._database.transaction(write=True) as transaction:
                    if transaction.bytes_used() + need > self._database.limit:
                        raise lmdb.MapFullError("as counted")
                    for key, reading, picture in batch:
                        if picture is not None:
                            transaction.put("pictures", key, picture)
                        transaction.put("readings", key, reading)
                        transaction.put("used", key, now)
                return
            except lmdb.MapFullError:  # as counted, or free pages that do not lie together
                if not self._drop_oldest(need + self._database.limit // 64):
                    raise

    def _drop_oldest(self, size: int) -> bool:
        """Drop pictures that were not used for KEPT_DAYS, oldest first, until about `size` bytes
        are free; False where there is none.

        In two transactions, for LMDB uses pages again two after the one that freed them. What is
        left in "used" by a crash between them is dropped the next time.
        """
        limit = time.time() - KEPT_DAYS * _DAY
        dropped: list[bytes] = []
        with self._database.transaction(write=True) as transaction:
            used = ((struct.unpack("<d", v)[0], key) for key, v in transaction.items("used"))
            for _, key in sorted((stamp, key) for stamp, key in used if stamp < limit):
                if size <= 0:
                    break
                for table in STORED:
                    size -= pages(len(transaction.get(table, key) or b""))
                    transaction.delete(table, key)
                dropped.append(key)
        if dropped:
            with self._database.transaction(write=True) as transaction:
                for key in dropped:
                    transaction.delete("used", key)
        return bool(dropped)

    def _expect_room(self, count: int, size: int) -> None:
        need, limit = count * pages(size * size * 2), self._database.limit
        if need > 0.9 * limit:
            raise SiteProblem(
                "storage",
                f"{self.folder}: the limit of {limit / 2**30:.3g} GiB is too small for "
                f"{count} images of {size} px, which need {need / 2**30:.3g} GiB: raise "
                "images_gib in site.toml",
            )

    def _mark_used(self, keys: Sequence[bytes]) -> None:
        """Once a day is often enough to know what is in use."""
        now = time.time()
        stamps = self._database.get("used", set(keys))
        stale = [key for key, v in stamps.items() if now - struct.unpack("<d", v)[0] > _DAY]
        self._database.put("used", [(key, struct.pack("<d", now)) for key in stale])


def _mark(file: Path) -> bytes:
    """Digest of path, size and times of a file; b"" where it is no readable file. Its time of
    change as well, which nobody can set back."""
    try:
        status = os.stat(file)
    except OSError:
        return b""
    known = f"{file}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"
    return sha256(known.encode(errors="replace")).digest()


def _digest_of(settings: InputSettings) -> bytes:
    return sha256(f"{READING_CHAIN}{settings.model_dump_json()}".encode()).digest()[:8]
