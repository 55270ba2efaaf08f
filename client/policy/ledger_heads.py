"""Heads of the ledger, kept outside the site, show later that nothing of it was removed.

The chain of a ledger shows a change within it, but not that its end was cut off or that the whole
was written anew. Whoever keeps a head - the time, the number of lines and the hash of the last -
can show that.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.names import NAME_PATTERN
from fedrad.system.files import locked, read_if_there, write_whole
from fedrad.system.folders import make_folder

from .ledger import LEDGER, Ledger, LedgerContent
from .ledger_lines import backwards, link

HEADS = "heads.txt"
"""File of the state folder with the heads so far, to be mailed or handed on."""
_LINE = re.compile(
    rf"(?P<time>\d{{4}}-[0-9T:.+-]{{1,40}}) (?P<site>{NAME_PATTERN}) (?P<lines>\d{{1,12}}) "
    r"(?P<hash>[0-9a-f]{64})"
)


@dataclass(frozen=True)
class Head:
    """The last line of a site's ledger at one time."""

    time: str
    site: str
    lines: int
    """Number of entries of the ledger."""
    hash: str
    """Hash of the last of them."""

    def __str__(self) -> str:
        """The line by which it is kept."""
        return f"{self.time} {self.site} {self.lines} {self.hash}"


def read_heads(text: str, source: str) -> list[Head]:
    """The heads of a text, one a line; `source` is its name in errors. Raises SiteProblem."""
    heads = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if (found := _LINE.fullmatch(line.strip())) is None:
            raise SiteProblem(
                "internal",
                f"{source}, line {number}: no head of a ledger, as `fedrad-site ledger --head` "
                "prints it: time, site, number of lines, hash",
            )
        heads.append(Head(found["time"], found["site"], int(found["lines"]), found["hash"]))
    return heads


def head_of(site: str, record: LedgerContent) -> Head:
    """The head of a ledger that was read and verified."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Head(now, site, len(record.entries), record.head)


def write_head(site: str, state: Path) -> Head:
    """Verify the whole ledger and add its head to `heads.txt`.

    Raises LedgerError if the ledger was changed, and SiteProblem if it is not the one of the last
    head, or the file cannot be written.
    """
    check_last_head(state)
    head = head_of(site, Ledger(state / LEDGER).read())
    file = state / HEADS
    try:
        make_folder(state)
        with locked(file):
            write_whole(file, f"{_heads_so_far(file)}{head}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SiteProblem("internal", f"{file}: cannot be written: {error}") from error
    return head


def _heads_so_far(file: Path) -> str:
    """The text of `heads.txt`. Raises OSError and UnicodeDecodeError."""
    return (read_if_there(file) or b"").decode("ascii")


def write_head_of(site: Site) -> None:
    """Add the head of a site's ledger after a decision of a person, which is then part of what a
    kept head shows. A site that has not joined has nobody to hand it to."""
    if site.joined:
        write_head(site.name, site.state)


def check_last_head(state: Path) -> None:
    """Raise SiteProblem unless the ledger still has the line of the last head in `heads.txt`. Only
    the lines after that head are looked at."""
    file = state / HEADS
    try:
        heads = read_heads(_heads_so_far(file), str(file))
    except OSError as error:
        raise SiteProblem("policy", f"{file}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, SiteProblem) as error:
        raise SiteProblem(
            "policy",
            f"{file}: is damaged ({error}). Compare the ledger with heads that are kept elsewhere "
            "(`fedrad-site ledger --against HEADS`), then remove the file: the next start of the "
            "node writes it anew",
        ) from error
    if heads and not _has_line(state / LEDGER, heads[-1].hash):
        raise SiteProblem(
            "policy",
            f"{state / LEDGER}: is missing, shortened or rewritten: it lacks its line "
            f"{heads[-1].lines} of {heads[-1].time} ({file.name}). Nothing leaves: "
            f"`fedrad-site ledger --against {file}` says what was removed; restore it from a "
            "backup, and find out who changed it",
        )


def _has_line(ledger: Path, wanted: str) -> bool:
    """Whether a ledger has a line with this hash."""
    if not ledger.is_file():
        return False
    with ledger.open("rb") as file:
        links = (link(line) for line in backwards(file, partial=True))
        return any(found is not None and found[1] == wanted for found in links)


def compare_with_heads(record: LedgerContent, heads: list[Head], site: str) -> list[str]:
    """What was removed from a ledger or rewritten, by heads that were kept elsewhere.

    Parameters
    ----------
    record
        The ledger, whose chain is whole.
    heads
        Kept heads, in any order.
    site
        Name of the site. Heads of other sites are not looked at.

    Returns
    -------
    list of str
        A sentence for each head that the ledger contradicts; empty if it contradicts none.

    Raises
    ------
    SiteProblem
        If no head is of this site.
    """
    own = sorted((head for head in heads if head.site == site), key=lambda h: (h.lines, h.time))
    if not own:
        raise SiteProblem("internal", f"none of these heads is of {site}")
    sentences, sound, since = [], 0, ""
    present = len(record.entries)
    for head in own:
        there = record.entries[head.lines - 1]["hash"] if 0 < head.lines <= present else None
        if there == head.hash or head.lines == 0:
            sound, since = head.lines, f"the head of {head.time}"
            continue
        lines = f"lines {sound + 1} to {head.lines}"
        lines += f", written after {since}" if sound else ""
        if head.lines > present:
            what = (
                "the ledger is missing or empty"
                if not present
                else f"it has {present} lines now, so the last {head.lines - present} were removed"
            )
            sentences.append(f"{head.time}: the ledger had {head.lines} lines; {what}, of {lines}")
        else:
            sentences.append(
                f"{head.time}: line {head.lines} is another one now: of {lines}, some were removed "
                "or rewritten"
            )
    return sentences
