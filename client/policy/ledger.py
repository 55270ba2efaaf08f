"""The ledger: the site's record of every message it sent. Append-only; each line holds the hash of
the line before."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fedrad.exchange.wire import Wire
from fedrad.system.errors import UserError

if TYPE_CHECKING:
    from fedrad.exchange.encoding import Packed  # numpy, which no look-up of the ledger needs

LEDGER = "ledger.jsonl"
START = "0" * 64
_BLOCK = 64 * 1024

LedgerEntry = dict[str, Any]


class LedgerError(UserError, ValueError):
    """A ledger that was changed or cannot be read. Nothing may leave the site before a person has
    examined it. The text names the line."""


@dataclass(frozen=True)
class LedgerContent:
    """The content of a whole ledger.

    `cut_off`: bytes of an incomplete last line, after a crash while it was written. A message is
    sent after its line is on disk, so the message of that line was not sent.
    """

    entries: list[LedgerEntry]
    cut_off: int = 0
    head: str = START
    """Hash of the last line. A copy of it elsewhere proves later that no line was removed."""


class Ledger:
    """`ledger.jsonl` in the site's state folder, one line per message.

    A line is on disk (fsync) before its message is sent. One process at a time writes. The cost of
    a line does not depend on the length of the ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(
        self,
        experiment: str,
        message: Wire,
        packed: "Packed | None" = None,
        *,
        asked: Wire | None = None,
        seconds: float = 0.0,
        identity: str | None = None,
        number: int | None = None,
        received: str | None = None,
    ) -> None:
        """Append an outgoing message before it is sent: all of it except the tensors.

        The line has the SHA-256 of the bytes sent: the message's JSON, then its tensors.

        Parameters
        ----------
        experiment
            Name of the experiment.
        message
            The message.
        packed
            Its tensors, if any.
        asked
            The request that it answers.
        seconds
            Time that the site computed for it.
        identity
            Identity of the experiment.
        number
            Number of the question in the experiment's book.
        received
            SHA-256 of the model that was received.

        Raises
        ------
        LedgerError
            If the last line was changed.
        """
        text = message.model_dump_json().encode()
        digest = sha256(text)
        if packed is not None:
            digest.update(packed.data)
        self.append(
            {
                "experiment": experiment,
                "identity": identity,
                "number": number,
                "received": received,
                "asked": None
                if asked is None
                else asked.model_dump(
                    mode="json", exclude={"manifest", "operating"}, exclude_none=True
                ),
                "message": message.model_dump(mode="json", exclude_none=True),
                "message_bytes": len(text),
                "tensor_bytes": 0 if packed is None else packed.nbytes,
                "sha256": digest.hexdigest(),
                "seconds": round(seconds, 3),
            }
        )

    def append(self, entry: LedgerEntry) -> None:
        """Append an entry, with the time and the hash of the entry before.

        An incomplete line that a crash left stays in the file, on a line of its own. The entry that
        follows has its hash.
        """
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked() as file:
            last, torn = _end_of(file)
            start = b""
            if torn:
                start = b"\n"
                if _parsed(torn):  # only the line's end was cut off
                    last, torn = torn, b""
            entry_before = None if last is None else _parsed(last)
            if last is not None and entry_before is None:
                raise LedgerError(f"{self.path}: its last line was changed")
            previous = START if entry_before is None else str(entry_before["hash"])
            now = datetime.now(UTC).isoformat(timespec="seconds")
            whole: LedgerEntry = {"time": now, **entry}
            if torn:
                whole["cut_off"] = sha256(torn).hexdigest()
            whole["previous"] = previous
            whole["hash"] = _hash(whole)
            line = start + json.dumps(whole).encode() + b"\n"
            file.seek(0, os.SEEK_END)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def read(self) -> LedgerContent:
        """Read and verify the whole ledger. Raises LedgerError if the chain is broken."""
        if not self.path.is_file():
            return LedgerContent([])
        lines = self.path.read_bytes().split(b"\n")
        whole = _parsed(lines[-1]) is not None  # then only the line's end was cut off
        cut_off = 0 if whole else len(lines.pop())
        entries: list[LedgerEntry] = []
        previous, torn = START, b""
        for number, line in enumerate(lines, start=1):
            entry = _parsed(line)
            if entry is None:
                if torn:
                    raise self._broken(number)
                torn = line
                continue
            torn_hash = sha256(torn).hexdigest() if torn else None
            content = {key: value for key, value in entry.items() if key != "hash"}
            chained = entry["previous"] == previous and _hash(content) == entry["hash"]
            if not chained or entry.get("cut_off") != torn_hash:
                raise self._broken(number)
            entries.append(entry)
            previous, torn = entry["hash"], b""
        if torn:
            raise self._broken(len(lines))
        return LedgerContent(entries, cut_off, previous)

    def entries(self) -> list[LedgerEntry]:
        """All entries, oldest first. Raises LedgerError if the chain is broken."""
        return self.read().entries

    def since(self, moment: datetime) -> Iterator[LedgerEntry]:
        """Entries since a moment, newest first. Older lines are not read."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for line in _backwards(file):
                entry = _parsed(line)
                if entry is None:
                    continue  # an incomplete line
                if datetime.fromisoformat(entry["time"]) < moment:
                    return
                yield entry

    def _broken(self, number: int) -> LedgerError:
        return LedgerError(
            f"{self.path}, line {number}: changed, or a line before it removed. Keep the file as "
            "it is, and find out who can write it; a copy from a backup shows what was changed"
        )

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
            yield file


def _parsed(line: bytes) -> LedgerEntry | None:
    """The entry of a line; None if the line is not a valid entry."""
    try:
        entry = json.loads(line)
        if all(isinstance(entry[key], str) for key in ("time", "previous", "hash")):
            return dict(entry)
    except (ValueError, TypeError, KeyError):
        pass
    return None


def _end_of(file: BinaryIO) -> tuple[bytes | None, bytes]:
    """The last complete line, None if there is none; and the incomplete line after it."""
    lines = _backwards(file, partial=True)
    torn = next(lines, b"")
    return next(lines, None), torn


def _backwards(file: BinaryIO, *, partial: bool = False) -> Iterator[bytes]:
    """The complete lines of a file, last line first; if `partial`, the incomplete line at the end
    comes before them."""
    position = file.seek(0, os.SEEK_END)
    rest, first = b"", True
    while position:
        start = max(0, position - _BLOCK)
        file.seek(start)
        pieces = (file.read(position - start) + rest).split(b"\n")
        position, rest = start, pieces[0]
        for piece in reversed(pieces[1:]):
            if not first or partial:
                yield piece
            first = False
    if not first or partial:
        yield rest


def _hash(entry: LedgerEntry) -> str:
    return sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
