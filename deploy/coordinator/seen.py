"""When the gate last heard from each site, which release runs there, and how far its clock is off.

`seen.json` in the coordinator's folder. It is for `fedrad sites` and proves nothing: the figures
are those of requests whose signature was verified, as the sites state them.
"""

import logging
import time
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from fedrad.exchange.names import Name
from fedrad.system.files import JsonFile, UnreadableFileError

log = logging.getLogger("fedrad.gate")
SEEN = "seen.json"
WRITE_SECONDS = 5.0
"""The file is written at most so often."""


class SeenSite(BaseModel):
    """The last verified request of a site."""

    at: AwareDatetime
    release: str = Field(max_length=120)
    clock: float
    """Seconds that the site's clock was ahead of the coordinator's, less the time on the way."""
    refused: bool = False
    """Whether the request was refused because of its time."""


class Seen(BaseModel):
    """The last verified request of each site."""

    format: Literal[1] = 1
    sites: dict[Name, SeenSite] = Field(default_factory=dict)


def read_seen(folder: Path) -> Seen:
    """What the gate wrote in a coordinator's folder; nothing if there is no file, or a damaged
    one: it is made anew."""
    try:
        return JsonFile(folder / SEEN, Seen).read() or Seen()
    except UnreadableFileError:
        return Seen()


class SeenFile:
    """Keeps the file up to date. `folder`: that of the coordinator."""

    def __init__(self, folder: Path) -> None:
        self._file = JsonFile(folder / SEEN, Seen)
        self._seen = read_seen(folder)
        self._written = float("-inf")
        self._fault = ""

    def note(self, site: str, seen: SeenSite) -> Seen | None:
        """Take a request down. Returns what should now be written, if the last time is long ago."""
        self._seen.sites[site] = seen
        if time.monotonic() - self._written < WRITE_SECONDS:
            return None
        self._written = time.monotonic()
        return self._seen.model_copy(deep=True)

    def write(self, seen: Seen) -> None:
        """Write the file. A disk that is full keeps no site out: the fault is logged once."""
        try:
            self._file.write(seen)
            self._fault = ""
        except OSError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                log.error("%s cannot be written: %s", SEEN, error.strerror)
