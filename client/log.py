"""The site's log: a file in its state folder, which is never sent."""

import logging
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from fedrad.system.folders import make_folder
from fedrad.system.log_file import PrivateLogHandler


@cache
def site_log(name: str, state: Path) -> logging.Logger:
    """The logger of a site, which writes to `site.log` in the state folder."""
    make_folder(state)
    log = logging.getLogger(f"fedrad.site.{name.replace('.', '_')}")
    handler = PrivateLogHandler(state / "site.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    return log


def report_steps(log: logging.Logger, site: str) -> Callable[[int, int], None]:
    """A function that logs the progress (step, steps) of a long round every ten seconds."""
    last = time.monotonic()

    def report(step: int, steps: int) -> None:
        nonlocal last
        if time.monotonic() - last > 10:
            last = time.monotonic()
            log.info("%s: step %d of %d", site, step, steps)

    return report
