"""The site's cache of decoded images: each file is decoded and resized once.

It is a database in the site's state folder (see `database`). The key is the SHA-256 of the file's
bytes together with the picture's settings. A renamed or copied file is therefore not decoded again,
but a changed file is. File names are stored only as digests.
"""

import json
import os
import stat
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import lmdb

from fedrad.client.problems import SiteProblem
from fedrad.models.settings import READING_CHAIN, InputSettings

from .database import Database, TableName, bytes_on_disk
from .lungs import pspnet_weights_for
from .reading import Reading
from .single_file import file_digest, file_uid, read_file
from .stored_images import StoredImages
from .worker_processes import Failure, run_isolated

FileProgress = Callable[[int, int], None]
"""Called with the number of files done and the number of all files."""

COMMIT_SECONDS = 1.0
"""Interval at which results are written. If the process is killed, later ones are decoded again."""
MINIMUM_DAYS_STORED = 7
"""Pictures used within this time are never deleted to free space."""
RETRY_HOURS = 24
"""A file whose worker crashed, hung or ran out of memory is tried again after this time."""

CHUNK = 256
"""Number of files whose digests or UIDs are written together."""
IMAGE_TABLES: tuple[TableName, ...] = ("pictures", "readings")

_DAY = 86400.0


class ImageStore:
    """The image store in a folder, of at most `limit_gib` GiB.

    The folder must be on a local disk. `workers` is the number of processes that decode; 0 for as
    many as cores and memory allow.
    """

    def __init__(self, folder: Path, *, limit_gib: float = 50.0, workers: int = 0) -> None:
        self.folder, self.workers = folder, workers
        self._database = Database(folder, int(limit_gib * 2**30))

    def load(
        self,
        files: Sequence[Path],
        settings: InputSettings,
        progress: FileProgress | None = None,
        comparing: FileProgress | None = None,
    ) -> tuple[StoredImages, list[Reading]]:
        """Pictures and readings of files, in their order. Files that are not stored are decoded.

        An interrupted call keeps what it decoded. A bad file raises no error: its reading has
        the reason.

        Parameters
        ----------
        files
            Paths of DICOM, PNG or JPEG files.
        settings
            Size, fit and region of the pictures.
        progress
            Called with the number of files decoded so far and of all to decode.
        comparing
            Called before that, with the number of new files whose digest was computed, and of all
            new files.

        Raises
        ------
        SiteProblem
            "storage" for a full disk, a folder that cannot be written, or a limit that is too small
            for these files; "weights" if region = "lungs-pspnet" and its weights are missing.
        """
        pspnet = pspnet_weights_for(settings)
        with self._database.lmdb_errors_as_site_problems():
            contents = self._content_digests(files, comparing)
            suffix = _settings_digest(settings)
            keys = [content + suffix if content else b"" for content in contents]
            self._mark_used(keys)  # before reading, as another process may be freeing space
            known = self._stored_readings(keys)
            missing = {
                content: file
                for file, content in zip(files, contents, strict=True)
                if content and content + suffix not in known
            }
            self._require_room(len(set(contents)), settings.size)
            if missing:
                known |= self._decode(missing, settings, suffix, pspnet, progress)
        unopened = Reading("", unusable="cannot be opened, or vanished while being read")
        readings = [known.get(key, unopened) for key in keys]
        usable = [
            key if reading.unusable is None else b""
            for key, reading in zip(keys, readings, strict=True)
        ]
        return StoredImages(self._database, settings.size, usable), readings

    def instance_uids(
        self, files: Sequence[Path], progress: FileProgress | None = None
    ) -> list[str]:
        """SOPInstanceUID of each file, "" if it has none; stored by content."""
        with self._database.lmdb_errors_as_site_problems():
            contents = self._content_digests(files)
            known = self._database.get("uids", contents)
            missing = {c: f for f, c in zip(files, contents, strict=True) if c and c not in known}
            order = list(missing)
            items = [(str(missing[c]),) for c in order]
            unwritten: dict[bytes, bytes] = {}
            results = run_isolated(file_uid, items, workers=self.workers)
            for done, (item, uid) in enumerate(results, start=1):
                unwritten[order[item]] = b"" if isinstance(uid, Failure) else uid.encode()
                if len(unwritten) == CHUNK or done == len(items):
                    self._database.put("uids", unwritten.items())
                    known |= unwritten
                    unwritten = {}
                if progress:
                    progress(done, len(items))
        return [known.get(c, b"").decode() for c in contents]

    def forget(self, files: Sequence[Path]) -> list[str]:
        """Remove the pictures and readings of files, in all sizes and settings.

        The digests of the files and their UIDs stay, so that such a file need not be opened again
        to know which it is. The space is used again by later pictures; until then it may still hold
        the removed ones.

        Parameters
        ----------
        files
            Paths of the files, as they are now: a changed file is another one.

        Returns
        -------
        list[str]
            SHA-256 of the files that can be read, hexadecimal, each once.

        Raises
        ------
        SiteProblem
            "storage", if the folder cannot be written.
        """
        with self._database.lmdb_errors_as_site_problems():
            contents = sorted({content for content in self._content_digests(files) if content})
            with self._database.transaction(write=True) as transaction:
                for table in (*IMAGE_TABLES, "used"):
                    for content in contents:
                        for key in transaction.keys(table, content):
                            transaction.delete(table, key)
        return [content.hex() for content in contents]

    def _content_digests(
        self, files: Sequence[Path], comparing: FileProgress | None = None
    ) -> list[bytes]:
        """SHA-256 of each file's bytes, b"" if it cannot be read.

        As in git, a file whose path, size and times are unchanged is not read again.
        """
        fingerprints = [_fingerprint(file) for file in files]
        known = self._database.get("files", fingerprints)
        unknown = [(m, f) for m, f in zip(fingerprints, files, strict=True) if m and m not in known]
        with ThreadPoolExecutor(4) as pool:
            for start in range(0, len(unknown), CHUNK):  # an interruption loses one chunk
                chunk = unknown[start : start + CHUNK]
                digests = pool.map(file_digest, [file for _, file in chunk])
                new = {m: d for (m, _), d in zip(chunk, digests, strict=True) if d}
                self._database.put("files", new.items())
                known |= new
                if comparing:
                    comparing(start + len(chunk), len(unknown))
        return [known.get(fingerprint, b"") for fingerprint in fingerprints]

    def _stored_readings(self, keys: Sequence[bytes]) -> dict[bytes, Reading]:
        """The readings of these keys, without failures that are due to be tried again."""
        known = {}
        for key, value in self._database.get("readings", set(keys)).items():
            (retry,) = struct.unpack_from("<d", value)
            if time.time() < retry:
                known[key] = Reading.from_json(json.loads(value[8:]))
        return known

    def _decode(
        self,
        missing: dict[bytes, Path],
        settings: InputSettings,
        suffix: bytes,
        pspnet: str | None,
        progress: FileProgress | None,
    ) -> dict[bytes, Reading]:
        readings: dict[bytes, Reading] = {}
        batch: list[tuple[bytes, bytes, bytes | None]] = []
        order, written = list(missing), time.monotonic()
        items = [(str(missing[content]), settings, pspnet) for content in order]
        results = run_isolated(read_file, items, workers=self.workers)
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
                if same:  # otherwise the file changed or vanished while it was read
                    value = struct.pack("<d", retry) + json.dumps(reading.to_json()).encode()
                    batch.append((content + suffix, value, picture))
                if time.monotonic() - written > COMMIT_SECONDS:
                    self._write_batch(batch)
                    batch, written = [], time.monotonic()
                if progress:
                    progress(done, len(items))
        finally:
            results.close()
            self._write_batch(batch)
        return readings

    def _write_batch(self, batch: list[tuple[bytes, bytes, bytes | None]]) -> None:
        """Write key, reading and picture of some files. Raises lmdb.MapFullError if there is too
        little space and no picture may be deleted."""
        if not batch:
            return
        need = sum(
            bytes_on_disk(len(picture)) + len(reading) for _, reading, picture in batch if picture
        )
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
            except lmdb.MapFullError:  # raised above, or the free pages are not contiguous
                if not self._drop_oldest(need + self._database.limit // 64):
                    raise

    def _drop_oldest(self, size: int) -> bool:
        """Delete pictures that were not used for MINIMUM_DAYS_STORED, oldest first, until about
        `size` bytes are free. Returns False if there is no such picture.

        Two transactions are needed, because LMDB reuses freed pages only in the second transaction
        after. If a crash between them leaves entries in "used", the next call deletes these.
        """
        limit = time.time() - MINIMUM_DAYS_STORED * _DAY
        dropped: list[bytes] = []
        with self._database.transaction(write=True) as transaction:
            used = ((struct.unpack("<d", v)[0], key) for key, v in transaction.items("used"))
            for _, key in sorted((stamp, key) for stamp, key in used if stamp < limit):
                if size <= 0:
                    break
                for table in IMAGE_TABLES:
                    size -= bytes_on_disk(len(transaction.get(table, key) or b""))
                    transaction.delete(table, key)
                dropped.append(key)
        if dropped:
            with self._database.transaction(write=True) as transaction:
                for key in dropped:
                    transaction.delete("used", key)
        return bool(dropped)

    def _require_room(self, count: int, size: int) -> None:
        need, limit = count * bytes_on_disk(size * size * 2), self._database.limit
        if need > 0.9 * limit:
            raise SiteProblem(
                "storage",
                f"{self.folder}: the limit of {limit / 2**30:.3g} GiB is too small for "
                f"{count} images of {size} px, which need {need / 2**30:.3g} GiB: raise "
                "images_gib in site.toml",
            )

    def _mark_used(self, keys: Sequence[bytes]) -> None:
        """Store the time of use. Once a day is often enough."""
        now = time.time()
        stamps = self._database.get("used", set(keys))
        stale = [key for key, v in stamps.items() if now - struct.unpack("<d", v)[0] > _DAY]
        self._database.put("used", [(key, struct.pack("<d", now)) for key in stale])


def _fingerprint(file: Path) -> bytes:
    """Digest of a file's path, size and times; b"" if it cannot be accessed. The time of status
    change is included because users cannot set it back."""
    try:
        status = os.stat(file)
    except OSError:
        return b""
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
        return b""
    attributes = f"{file}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"
    return sha256(attributes.encode(errors="replace")).digest()


def _settings_digest(settings: InputSettings) -> bytes:
    return sha256(f"{READING_CHAIN}{settings.model_dump_json()}".encode()).digest()[:8]
