"""Tables of bytes in one LMDB file of limited size, shared by the processes of a site.

The file is memory-mapped, allows one writer and many readers across processes, and is never
half-written (copy-on-write pages). It must be on a local disk, because LMDB's locks do not work on
network file systems: a database there is refused, before it is made.
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
from fedrad.system.folders import make_folder
from fedrad.system.mounts import LOCAL_DISK, sharing_fault

TableName = Literal["files", "uids", "readings", "pictures", "used"]
TABLE_NAMES: tuple[TableName, ...] = ("files", "uids", "readings", "pictures", "used")
PAGE = 4096
RESERVE = 2**22
"""Bytes beyond the limit. LMDB copies pages before it changes them, so deleting needs space."""


class Transaction:
    """A consistent view of the tables, or a set of changes that is committed at once."""

    def __init__(self, handle: "_Handle", transaction: "lmdb.Transaction[Any]") -> None:
        self._handle, self._transaction = handle, transaction

    def get(self, table: TableName, key: bytes) -> memoryview | None:
        """A value, valid within the transaction; None if there is none."""
        value: memoryview | None = self._transaction.get(key, db=self._handle.tables[table])
        return value

    def put(self, table: TableName, key: bytes, value: bytes) -> None:
        """Set a value."""
        self._transaction.put(key, value, db=self._handle.tables[table])

    def delete(self, table: TableName, key: bytes) -> None:
        """Remove a value if it exists."""
        self._transaction.delete(key, db=self._handle.tables[table])

    def items(self, table: TableName) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values of a table."""
        for key, value in self._transaction.cursor(self._handle.tables[table]):
            yield bytes(key), bytes(value)

    def keys(self, table: TableName, start: bytes) -> list[bytes]:
        """The keys of a table that begin with `start`."""
        cursor, found = self._transaction.cursor(self._handle.tables[table]), []
        if cursor.set_range(start):
            for key in cursor.iternext(values=False):
                if not bytes(key).startswith(start):
                    break
                found.append(bytes(key))
        return found

    def bytes_used(self) -> int:
        """Size of all pages in use. The file may be larger, because it keeps its free pages."""
        tables = map(self._transaction.stat, self._handle.tables.values())
        return sum(
            stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
            for stat in (self._handle.environment.stat(), *tables)
        )


class Database:
    """The tables in a folder. The file grows to `limit` + RESERVE bytes at most; callers that add
    values must stay below `limit`."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Transaction]:
        """Commit at the end of the block; undo everything if it raises. Raises lmdb.Error, and its
        MapFullError if the limit is reached."""
        make_folder(self.folder)
        handle = _handle(self.folder, self.limit + RESERVE)
        begin = partial(handle.environment.begin, write=write, buffers=True)
        try:
            begun = begin()
        except lmdb.MapResizedError:  # another process with a higher limit enlarged it
            handle.environment.set_mapsize(0)
            begun = begin()
        with begun as transaction:
            yield Transaction(handle, transaction)

    def get(self, table: TableName, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that exist."""
        with self.transaction() as transaction:
            values = {key: transaction.get(table, key) for key in keys if key}
            return {key: bytes(value) for key, value in values.items() if value is not None}

    def put(self, table: TableName, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Set all values in one transaction."""
        if entries := list(entries):
            with self.transaction(write=True) as transaction:
                for key, value in entries:
                    transaction.put(table, key, value)

    @contextmanager
    def lmdb_errors_as_site_problems(self) -> Iterator[None]:
        """Turn errors of a full, unwritable or damaged database into SiteProblem("storage")."""
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


def bytes_on_disk(size: int) -> int:
    """Bytes on disk for a value of `size` bytes, with the usual pages of 4 KiB."""
    return (size + 16 + PAGE - 1) // PAGE * PAGE


@dataclass(frozen=True)
class _Handle:
    environment: lmdb.Environment
    tables: dict[TableName, Any]


_opened: dict[tuple[int, int, int], _Handle] = {}
_opening = Lock()


def _handle(folder: Path, size: int) -> _Handle:
    """The handle of a database. LMDB allows only one per process and file, so handles are shared,
    whatever path names the file. A forked process opens a new one, and so does a process whose
    folder was deleted and created again."""
    with _opening:
        for inherited in [key for key in _opened if key[0] != os.getpid()]:
            _opened.pop(inherited).environment.close()
        key = _file_identity(folder)
        if key is None or key not in _opened:
            handle = _open(folder, size)
            key = _file_identity(folder)
            assert key is not None
            _opened[key] = handle
        handle = _opened[key]
        if handle.environment.info()["map_size"] < size:
            handle.environment.set_mapsize(size)
        return handle


def _open(folder: Path, size: int) -> _Handle:
    if fault := sharing_fault(folder):
        raise SiteProblem("storage", f"{folder}: {fault}. {LOCAL_DISK}")
    environment = lmdb.open(
        str(folder),
        map_size=size,
        max_dbs=len(TABLE_NAMES),
        mode=0o600,
        metasync=False,
        readahead=False,
        max_readers=1024,
    )
    environment.reader_check()  # a killed reader would prevent the reuse of freed pages
    with environment.begin(write=True) as transaction:
        tables = {name: environment.open_db(name.encode(), txn=transaction) for name in TABLE_NAMES}
    return _Handle(environment, tables)


def _file_identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(folder / "data.mdb")
    except FileNotFoundError:
        return None
    return os.getpid(), status.st_dev, status.st_ino
