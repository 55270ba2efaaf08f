"""`records.sqlite`: events and figures of a run as they occur, by round and site."""

import os
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedrad.system.files import PRIVATE_FILE

_TABLE = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER NOT NULL PRIMARY KEY,
    time VARCHAR(32) NOT NULL,
    round INTEGER NOT NULL,
    site VARCHAR(64) NOT NULL,
    metric VARCHAR(80) NOT NULL,
    value FLOAT,
    text VARCHAR
)
"""
_PATIENCE_SECONDS = 60.0
"""How long to wait for another process that uses the file."""


@dataclass(frozen=True)
class Record:
    """One figure or event of one round; `site` is empty if it concerns all sites."""

    id: int
    time: str
    round: int
    site: str
    metric: str
    value: float | None
    text: str | None


class Records:
    """The records of one experiment. Each call is committed, so that readers see it at once."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE))  # SQLite would ask the umask
        self._database = sqlite3.connect(path, timeout=_PATIENCE_SECONDS)
        self._database.execute(_TABLE)

    def add(
        self, round_: int, site: str, values: dict[str, float | None] | None = None, **texts: str
    ) -> None:
        """Add records of one site in one round.

        Parameters
        ----------
        round_
            Round from 1; 0 for events outside a round.
        site
            Name of the site; empty if the record concerns all.
        values
            Metric -> figure.
        texts
            Metric -> text of an event.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        figures = [(metric, value, None) for metric, value in (values or {}).items()]
        events = [(metric, None, text) for metric, text in texts.items()]
        with self._database:
            self._database.executemany(
                "INSERT INTO records (time, round, site, metric, value, text) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [(now, round_, site, *row) for row in (*figures, *events)],
            )

    def all(self) -> list[Record]:
        """All records in the order they were written."""
        rows = self._database.execute(
            "SELECT id, time, round, site, metric, value, text FROM records ORDER BY id"
        )
        return [Record(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._database.close()
