"""The ledger: the site's record of every message it sent, and of every decision about what may be
sent. Append-only; each line holds the hash of the line before."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fedrad.client.problems import SiteProblem
from fedrad.exchange.wire import Wire
from fedrad.system.files import PRIVATE_FILE
from fedrad.system.folders import make_folder

from .ledger_lines import (
    FORMAT,
    START,
    LedgerEntry,
    LedgerError,
    end_of,
    entry_hash,
    parsed,
    signed_bytes,
)
from .ledger_search import newest, since

if TYPE_CHECKING:
    from fedrad.exchange.encoding import Packed  # numpy, which no look-up of the ledger needs

LEDGER = "ledger.jsonl"
_ONLY_WITH_A_LEDGER = ("membership.json", "officer.pub", "heads.txt")
"""Files of the state folder that are written after the ledger was begun."""
_AFTER_A_VISIT = ("heads.txt", "officer.pub", "approvals", "books", "experiments")
"""Files and folders that a site has only after a visit or a decision, of which the ledger tells. A
site that joined with an earlier version of fedrad, and was never asked for anything, has none."""


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
        request: str | None = None,
        content: str | None = None,
    ) -> None:
        """Append an outgoing message before it is sent: all of it except the tensors.

        The line has the SHA-256 of the bytes sent: the message's JSON, then its tensors. `request`
        and `content` are what the node holds a reply against before it sends it.

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
            SHA-256 of the experiment's settings (`Experiment.family`).
        number
            Number of the question in the question book of the experiment.
        received
            SHA-256 of the model that came with the request.
        request
            Flower's id of the request.
        content
            Flower's id of the content that is sent, which stands for every byte of it.

        Raises
        ------
        LedgerError
            As `append`.
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
                "asked": None
                if asked is None
                else asked.model_dump(
                    mode="json", exclude={"manifest", "operating"}, exclude_none=True
                ),
                "received": received,
                "request": request,
                "content": content,
                "message": message.model_dump(mode="json", exclude_none=True),
                "message_bytes": len(text),
                "tensor_bytes": 0 if packed is None else packed.nbytes,
                "sha256": digest.hexdigest(),
                "seconds": round(seconds, 3),
            }
        )

    def note(
        self,
        message: LedgerEntry,
        *,
        experiment: str = "",
        sign: Callable[[bytes], str] | None = None,
        first: bool = False,
    ) -> LedgerEntry:
        """Append something that the site did and sent to nobody: a decision, for example.

        `message` has a `kind` that `ledger_table.KINDS` explains. The rest is as in `append`.
        """
        entry = {
            "experiment": experiment,
            "message": message,
            "message_bytes": 0,
            "tensor_bytes": 0,
        }
        return self.append(entry, sign=sign, first=first)

    def append(
        self,
        entry: LedgerEntry,
        *,
        sign: Callable[[bytes], str] | None = None,
        first: bool = False,
    ) -> LedgerEntry:
        """Append an entry, with the time and the hash of the entry before.

        An incomplete line that a crash left stays in the file, on a line of its own. The entry that
        follows has its hash.

        Parameters
        ----------
        entry
            The entry.
        sign
            Makes the signature of an officer. What it signs has the hash of the line before, so
            that a signed line is valid at its own place only.
        first
            Whether the ledger may begin with this entry at a site that has joined a coordinator.
            Otherwise a ledger that is missing there was removed.

        Returns
        -------
        LedgerEntry
            The whole entry.

        Raises
        ------
        LedgerError
            If the last line was changed, the ledger was removed, or it cannot be written.
        """
        try:
            new = not self.path.exists()
            if new and not first and (removed := self.removed(_ONLY_WITH_A_LEDGER)):
                raise LedgerError(removed)
            make_folder(self.path.parent)
            with self._locked() as file:
                whole = self._append(file, entry, sign)
            if new:
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except OSError as error:
            raise LedgerError(
                f"{self.path}: cannot be written ({error.strerror}), and what is not recorded does "
                "not leave this site. Make room on the disk, or give this user the right to write "
                "there; the coordinator asks again"
            ) from error
        return whole

    def _append(
        self, file: BinaryIO, entry: LedgerEntry, sign: Callable[[bytes], str] | None
    ) -> LedgerEntry:
        last, torn = end_of(file)
        start = b""
        if torn:
            start = b"\n"
            if parsed(torn):  # only the line's end was cut off
                last, torn = torn, b""
        entry_before = None if last is None else parsed(last)
        if last is not None and entry_before is None:
            raise LedgerError(
                f"{self.path}: its last line was changed. Keep the file as it is, and find out who "
                "can write it; a copy from a backup shows what was changed"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        whole: LedgerEntry = {"format": FORMAT, "time": now, **entry}
        if torn:
            whole["cut_off"] = sha256(torn).hexdigest()
        previous = START if entry_before is None else str(entry_before["hash"])
        if sign is not None:
            whole["signature"] = sign(signed_bytes({**whole, "previous": previous}))
        whole["previous"] = previous
        whole["hash"] = entry_hash(whole)
        file.seek(0, os.SEEK_END)
        file.write(start + json.dumps(whole).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
        return whole

    def read(self) -> LedgerContent:
        """Read and verify the whole ledger. Raises LedgerError if the chain is broken."""
        if not self.path.is_file():
            return LedgerContent([])
        lines = self.path.read_bytes().split(b"\n")
        whole = parsed(lines[-1]) is not None  # then only the line's end was cut off
        cut_off = 0 if whole else len(lines.pop())
        entries: list[LedgerEntry] = []
        previous, torn = START, b""
        for number, line in enumerate(lines, start=1):
            entry = parsed(line)
            if entry is None:
                if torn:
                    raise self._broken(number)
                torn = line
                continue
            torn_hash = sha256(torn).hexdigest() if torn else None
            chained = entry["previous"] == previous and entry_hash(entry) == entry["hash"]
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
        """As `ledger_search.since`."""
        return since(self.path, moment)

    def newest(self, kind: str, text: str = "") -> Iterator[LedgerEntry]:
        """As `ledger_search.newest`."""
        return newest(self.path, kind, text)

    def removed(self, beside: Sequence[str]) -> str | None:
        """That the ledger was removed, and what to do: if it is not there, and one of the files
        `beside` it is, which a site has only with a ledger. Otherwise None."""
        if self.path.exists():
            return None
        found = next((name for name in beside if (self.path.parent / name).exists()), None)
        return found and (
            f"{self.path}: is missing, though this site has had one ({found} is beside it). "
            "Nothing leaves without it: restore it from a backup, and find out who removed it"
        )

    def _broken(self, number: int) -> LedgerError:
        return LedgerError(
            f"{self.path}, line {number}: changed, or a line before it removed. Keep the file as "
            "it is, and find out who can write it; a copy from a backup shows what was changed"
        )

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
            yield file


def check_ledger_is_there(state: Path) -> None:
    """Raise SiteProblem("policy") if the ledger of a state folder must have been removed."""
    if removed := Ledger(state / LEDGER).removed(_AFTER_A_VISIT):
        raise SiteProblem("policy", removed)
