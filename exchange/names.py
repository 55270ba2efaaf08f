"""Names of sites, experiments and columns."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import StringConstraints

NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
"""Name of a site or an experiment, safe as a file name: at most 64 letters, digits, `.`, `_` and
`-`."""

Outcome = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9 ._-]{0,63}$")]
"""Name of a column of the cohort table, for an outcome or for groups of patients."""


def folded(name: str) -> str:
    """The name of a column without what does not distinguish two columns: upper and lower case,
    blanks, `-` and `_`."""
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()


_WORDS = """
coordinator server superlink gate fedrad site sites base global local best ensemble pooled macro
within overall mean all any none null nan unknown
"""
_NO_FILES = frozenset(("con", "prn", "aux", "nul")) | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)
}
"""No names of files on Windows, whatever follows after a dot."""
RESERVED_SITES = frozenset(_WORDS.split()) | _NO_FILES
"""No names of sites: those of roles, of models and of figures over sites in results and reports,
and those that are no file names everywhere."""
_ALIKE = str.maketrans({"_": "-", ".": "-", "0": "o", "1": "l", "i": "l"})


def looks(name: str) -> str:
    """The name of a site without what the eye, or a file system, does not tell apart: case, `_`,
    `-` and `.` and how many of them, also at the end, 0 and O, 1, l and I."""
    return re.sub("-+", "-", name.casefold().translate(_ALIKE)).rstrip("-")


def fault_of_site(name: str, others: Iterable[str]) -> str | None:
    """Why a site cannot have a name; None if it can.

    Parameters
    ----------
    name
        The name, of which each character is allowed.
    others
        Names of other sites; the same name among them is no fault.

    Returns
    -------
    str | None
        The end of a sentence that begins with the name.
    """
    shape = looks(name)
    for reserved in sorted(RESERVED_SITES):
        if looks(reserved) == shape or name.casefold().split(".")[0] == reserved in _NO_FILES:
            return f"has a meaning of its own ({reserved}) and cannot name a site"
    for other in others:
        if other != name and looks(other) == shape:
            return (
                f"looks like {other!r}, another site: two sites need names that differ in more "
                "than case, `_`, `-` and `.`, 0 and O, or 1, l and I"
            )
    return None
