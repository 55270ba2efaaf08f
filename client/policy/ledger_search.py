"""What a site looks up in its ledger on every visit, without reading all of it."""

import re
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from itertools import chain
from pathlib import Path

from .ledger_lines import START, LedgerEntry, LedgerError, backwards, entry_hash, link, parsed

_DIGITS = re.compile(rb"\d+")


def newest(path: Path, kind: str, text: str = "") -> Iterator[LedgerEntry]:
    """Entries of one kind of message, newest first.

    The entries that are given are verified. Of the lines between them only the chain is followed,
    which costs little; `Ledger.read` verifies them all.

    Parameters
    ----------
    path
        The ledger.
    kind
        Kind of the message.
    text
        Text that the line must have in it, such as the identity of an experiment.

    Raises
    ------
    LedgerError
        At a line that was changed, or after which a line was removed.
    """
    if not path.is_file():
        return
    wanted = (f'"kind": "{kind}"'.encode(), text.encode())
    after, previous = b"", None
    with path.open("rb") as file:
        lines = backwards(file, partial=True)
        torn = next(lines, b"")
        if link(torn) is not None:  # only the line's end was cut off
            lines = chain([torn], lines)
        for line in lines:
            here = link(line)
            if here is None and _is_fragment(line, after):
                continue
            if here is None or (previous is not None and here[1] != previous):
                raise _changed(path)
            after, previous = line, here[0]
            if all(part in line for part in wanted):
                entry = parsed(line)
                if entry is None or entry_hash(entry) != entry["hash"]:
                    raise _changed(path)
                if entry["message"]["kind"] == kind:
                    yield entry
    if previous not in (None, START):
        raise _changed(path)


def since(path: Path, moment: datetime) -> Iterator[LedgerEntry]:
    """Entries since a moment, newest first. Older lines are not read."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in backwards(file):
            entry = parsed(line)
            if entry is None:
                continue  # an incomplete line
            if datetime.fromisoformat(entry["time"]) < moment:
                return
            yield entry


def largest_number(path: Path, identity: str) -> int:
    """Largest number of a question of an experiment that was answered; 0 if none was. Lines are
    only searched for it; that they are whole is checked elsewhere."""
    if not path.is_file():
        return 0
    wanted = f'"identity": "{identity}", "number": '.encode()
    with path.open("rb") as file:
        rests = (line.partition(wanted)[2] for line in file)
        return max((int(found[0]) for r in rests if (found := _DIGITS.match(r))), default=0)


def _is_fragment(line: bytes, after: bytes) -> bool:
    """Whether an incomplete line is one that a crash left, which the line after it confirms."""
    entry = parsed(after) if after else None
    return entry is not None and entry.get("cut_off") == sha256(line).hexdigest()


def _changed(path: Path) -> LedgerError:
    return LedgerError(
        f"{path}: a line was changed or removed; `fedrad-site ledger` names it. Nothing leaves "
        "before a person has examined it"
    )
