"""The site's own record of all that left it: append-only, each line chained to the one before."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedrad.exchange.wire import Wire

START = "0" * 64


class Ledger:
    """`ledger.jsonl` in the site's state folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, experiment: str, message: Wire, packed_bytes: int) -> None:
        """Append one outgoing message, whole but for its tensors, before it is sent."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entry: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "experiment": experiment,
            "message": message.model_dump(mode="json", exclude_none=True),
            "tensor_bytes": packed_bytes,
            "previous": self._last_hash(),
        }
        entry["hash"] = _hash(entry)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first. Raises ValueError where the chain is broken."""
        if not self.path.is_file():
            return []
        entries, previous = [], START
        for number, line in enumerate(self.path.read_text("utf-8").splitlines(), start=1):
            entry = json.loads(line)
            stated = entry.pop("hash")
            if entry["previous"] != previous or _hash(entry) != stated:
                raise ValueError(
                    f"{self.path}, line {number}: changed, or a line before it removed"
                )
            entries.append({**entry, "hash": stated})
            previous = stated
        return entries

    def _last_hash(self) -> str:
        if not self.path.is_file():
            return START
        lines = self.path.read_text("utf-8").splitlines()
        return str(json.loads(lines[-1])["hash"]) if lines else START


def _hash(entry: dict[str, Any]) -> str:
    return sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
