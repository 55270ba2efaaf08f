"""The lines of a ledger: how an entry becomes a line, and how lines are read from the end.

A line is the JSON of an entry. It ends with the hash of the line before and its own, so that the
chain of many lines can be followed without reading their content.
"""

import json
import os
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, BinaryIO

from fedrad.system.errors import UserError

START = "0" * 64
"""In place of the hash of the line before, in the first line."""
FORMAT = 1
"""Version of the lines. Lines of fedrad 0.1 have none and are of this version."""
_BLOCK = 64 * 1024
_LINK = re.compile(rb'"previous": "([0-9a-f]{64})", "hash": "([0-9a-f]{64})"\}$')
_LINK_BYTES = 200
_SIGNED = b"fedrad ledger entry\n"

LedgerEntry = dict[str, Any]


class LedgerError(UserError, ValueError):
    """A ledger that was changed, is missing, or cannot be read or written. Nothing may leave the
    site before a person has examined it. The text says where and what to do."""


def parsed(line: bytes) -> LedgerEntry | None:
    """The entry of a line; None if the line is not a whole entry, byte for byte as it is written:
    other blanks or a key that stands twice would not change its hash.

    Raises LedgerError if a later version of fedrad wrote it.
    """
    try:
        entry = json.loads(line)
        texts = all(isinstance(entry[key], str) for key in ("time", "previous", "hash"))
        if not texts or json.dumps(entry).encode() != line:
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if entry.get("format", FORMAT) != FORMAT:
        raise LedgerError(
            "the ledger has lines of another version of fedrad: install the version that wrote them"
        )
    return dict(entry)


def entry_hash(entry: LedgerEntry) -> str:
    """SHA-256 of an entry without its field `hash`."""
    content = {key: value for key, value in entry.items() if key != "hash"}
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def signed_bytes(entry: LedgerEntry) -> bytes:
    """What an officer signs of an entry: all of it, with its place in the chain."""
    content = {key: value for key, value in entry.items() if key not in ("hash", "signature")}
    return _SIGNED + json.dumps(content, sort_keys=True).encode()


def link(line: bytes) -> tuple[str, str] | None:
    """The hash of the line before, and the line's own, as the line states them; None if it is not
    a whole line."""
    found = _LINK.search(line[-_LINK_BYTES:])
    return (found[1].decode(), found[2].decode()) if found else None


def end_of(file: BinaryIO) -> tuple[bytes | None, bytes]:
    """The last complete line, None if there is none; and the incomplete line after it."""
    lines = backwards(file, partial=True)
    torn = next(lines, b"")
    return next(lines, None), torn


def backwards(file: BinaryIO, *, partial: bool = False) -> Iterator[bytes]:
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
