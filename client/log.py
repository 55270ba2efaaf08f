"""The site's own log: a file in its state folder, which nothing sends anywhere."""

import logging
from functools import cache
from pathlib import Path


@cache
def site_log(name: str, state: Path) -> logging.Logger:
    """Logger of one site, writing to `site.log` in its state folder."""
    state.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger(f"fedrad.site.{name.replace('.', '_')}")
    handler = logging.FileHandler(state / "site.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    return log
