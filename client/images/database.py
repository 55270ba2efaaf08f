"""Tables of bytes in one LMDB file that a site's processes share, of bounded size.

Memory-mapped, one writer and many readers at a time across processes, never half-written
(copy-on-write pages). The file must be on a local disk: LMDB's locks do not hold over network file
systems.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import lmdb

from fedrad.client.problems import SiteProblem

Table = Literal["files", "uids", "readings", "pictures", "used"]
TABLES: tuple[Table, ...] = ("files", "uids", "readings", "pictures", "used")
PAGE = 4096
RESERVE = 2**22
"""Bytes beyond the limit. LMDB copies pages before it changes them, so it needs room to delete."""


class Transaction:
    """What a process sees, or changes, at once."""

    def __init__(self, handle: "_Handle", transaction: "lmdb.Transaction[Any]") -> None:
        self._handle, self._transaction = handle, transaction

    def get(self, table: Table, key: bytes) -> memoryview | None:
        """A value, valid within the transaction."""
        found: memoryview | None = self._transaction.get(key, db=self._handle.tables[table])
        return found

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Set a value."""
        self._transaction.put(key, value, db=self._handle.tables[table])

    def delete(self, table: Table, key: bytes) -> None:
        """Remove a value, if it is there."""
        self._transaction.delete(key, db=self._handle.tables[table])

    def items(self, table: Table) -> Iterator[tuple[bytes, bytes]]:
        """All of a table."""
        for key, value in self._transaction.cursor(self._handle.tables[table]):
            yield bytes(key), bytes(value)

    def bytes_used(self) -> int:
        """Of all pages that hold something. The file may be larger: free pages stay in it."""
        tables = map(self._transaction.stat, self._handle.tables.values())
        return sum(
            stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
            for stat in (self._handle.environment.stat(), *tables)
        )


class Database:
    """The tables in a folder. Their file grows to `limit` and RESERVE bytes at the most; whoever
    adds to them stays below `limit`."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Transaction]:
        """Begin; commit at the end, or undo all where an exception leaves it. Raises lmdb.Error:
        MapFullError where the limit is reached."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = _handle(self.folder, self.limit + RESERVE)
        begin = partial(handle.environment.begin, write=write, buffers=True)
        try:
            begun = begin()
        except lmdb.MapResizedError:  # by a process with a higher limit
            handle.environment.set_mapsize(0)
            begun = begin()
        with begun as transaction:
            yield Transaction(handle, transaction)

    def get(self, table: Table, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Values of those keys that are there."""
        with self.transaction() as transaction:
            found = {key: transaction.get(table, key) for key in keys if key}
            return {key: bytes(value) for key, value in found.items() if value is not None}

    def put(self, table: Table, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Set values, all or none."""
        if entries := list(entries):
            with self.transaction(write=True) as transaction:
                for key, value in entries:
                    transaction.put(table, key, value)

    @contextmanager
    def problems(self) -> Iterator[None]:
        """Say what a person can do about a full, unwritable or damaged store."""
        try:
            yield
        except lmdb.MapFullError as error:
            raise SiteProblem(
                "storage",
                f"{self.folder}: its limit of {self.limit / 2**30:.3g} GiB is reached and nothing "
                "more in it can be dropped: raise images_gib in site.toml",
            ) from error
        except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError) as error:
            raise SiteProblem(
                "storage",
                f"{self.folder}: is damaged ({error}); delete the folder, and images "
                "are decoded anew",
            ) from error
        except (lmdb.Error, OSError) as error:
            raise SiteProblem(
                "storage",
                f"{self.folder}: decoded images cannot be kept ({error}); what was kept before is "
                "whole. Free space there, or name another folder as `state` in site.toml",
            ) from error


def pages(size: int) -> int:
    """Bytes that a value takes, where a page has the usual 4 KiB."""
    return (size + 16 + PAGE - 1) // PAGE * PAGE


@dataclass(frozen=True)
class _Handle:
    environment: lmdb.Environment
    tables: dict[Table, Any]


_opened: dict[tuple[int, int, int], _Handle] = {}
_opening = Lock()


def _handle(folder: Path, size: int) -> _Handle:
    """One handle a process and file, as LMDB demands, however the path is written; a forked
    process opens its own, and so does one whose folder was deleted and made again."""
    with _opening:
        for inherited in [key for key in _opened if key[0] != os.getpid()]:
            _opened.pop(inherited).environment.close()
        key = _identity(folder)
        if key is None or key not in _opened:
            handle = _open(folder, size)
            key = _identity(folder)
            assert key is not None
            _opened[key] = handle
        handle = _opened[key]
        if handle.environment.info()["map_size"] < size:
            handle.environment.set_mapsize(size)
        return handle


def _open(folder: Path, size: int) -> _Handle:
    environment = lmdb.open(
        str(folder),
        map_size=size,
        max_dbs=len(TABLES),
        mode=0o600,
        metasync=False,
        readahead=False,
        max_readers=1024,
    )
    environment.reader_check()  # a killed reader would keep freed pages from being used
    with environment.begin(write=True) as transaction:
        tables = {name: environment.open_db(name.encode(), txn=transaction) for name in TABLES}
    return _Handle(environment, tables)


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(folder / "data.mdb")
    except FileNotFoundError:
        return None
    return os.getpid(), status.st_dev, status.st_ino
