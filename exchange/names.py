"""Names of sites, experiments and columns."""

import re
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
