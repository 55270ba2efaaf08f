"""Which experiments a person at the hospital has agreed to.

An experiment is known by all its settings: a changed one needs approval anew. The folds of one
cross-validation are one experiment.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Experiment, Name

from .ledger import LEDGER, Ledger

MOST_WAITING = 100
"""Experiments that are kept waiting; more than that nobody asks in good faith."""


class Decision(BaseModel):
    """What was decided, by whom, when (UTC)."""

    decision: Literal["approved", "revoked"]
    by: str
    time: str


class Asked(BaseModel):
    """An experiment that the site was asked to join, word for word, and what was decided on it."""

    format: Literal[1] = 1
    name: Name
    identity: str
    text: str
    asked: str
    decisions: list[Decision] = []

    @property
    def approved(self) -> bool:
        """Whether the last word is that it may run."""
        return bool(self.decisions) and self.decisions[-1].decision == "approved"

    @property
    def standing(self) -> str:
        """Its state in a word."""
        return self.decisions[-1].decision if self.decisions else "waiting"


class Approvals:
    """`approvals/` in the site's state folder, a file per experiment; each decision also stands in
    the ledger."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "approvals"
        self._ledger = Ledger(state / LEDGER)

    def admits(self, experiment: Experiment, text: str) -> bool:
        """Whether an experiment is approved; one not seen before is kept, and waits."""
        file = self._file(experiment)
        if not file.is_file():
            if sum(not asked.decisions for asked in self.all()) >= MOST_WAITING:
                raise SiteProblem(
                    "approval", f"{self.folder}: {MOST_WAITING} experiments wait already"
                )
            self.keep(experiment, text)
            return False
        return _read(file).approved

    def keep(self, experiment: Experiment, text: str) -> Asked:
        """Keep an experiment that is asked for; what was decided on it before stays."""
        file = self._file(experiment)
        if file.is_file():
            return _read(file)
        asked = Asked(name=experiment.name, identity=experiment.family, text=text, asked=_now())
        self._write(file, asked)
        return asked

    def decide(self, asked: Asked, decision: Literal["approved", "revoked"], by: str) -> Asked:
        """Write a decision down, first in the ledger."""
        made = Decision(decision=decision, by=by, time=_now())
        self._ledger.append(
            {
                "experiment": asked.name,
                "message": {"kind": "decision", "identity": asked.identity, **made.model_dump()},
                "message_bytes": 0,
                "tensor_bytes": 0,
            }
        )
        decided = asked.model_copy(update={"decisions": [*asked.decisions, made]})
        self._write(self.folder / _name(asked.name, asked.identity), decided)
        return decided

    def all(self) -> list[Asked]:
        """All that was asked for, oldest first."""
        files = self.folder.glob("*.json") if self.folder.is_dir() else []
        return sorted((_read(file) for file in files), key=lambda asked: (asked.asked, asked.name))

    def _file(self, experiment: Experiment) -> Path:
        return self.folder / _name(experiment.name, experiment.family)

    def _write(self, file: Path, asked: Asked) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = file.with_suffix(f".{os.getpid()}.partial")
        temporary.write_text(asked.model_dump_json(indent=1), encoding="utf-8")
        temporary.replace(file)


def _read(file: Path) -> Asked:
    try:
        return Asked.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise SiteProblem(
            "approval",
            f"{file}: cannot be read ({error}); restore it, or remove it and approve "
            "the experiment again",
        ) from error


def _name(name: str, identity: str) -> str:
    return f"{name}-{identity[:12]}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
