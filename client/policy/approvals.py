"""Which experiments a person at the hospital has agreed to.

An experiment is known by all its settings: a changed one needs approval anew. The folds of one
cross-validation are one experiment.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Experiment, Name
from fedrad.system.files import PRIVATE_FOLDER, JsonFile, UnreadableFileError

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
        asked = _read(self.folder / _name(experiment.name, experiment.family))
        if asked is None:
            if sum(not other.decisions for other in self.all()) >= MOST_WAITING:
                raise SiteProblem(
                    "approval", f"{self.folder}: {MOST_WAITING} experiments wait already"
                )
            self.keep(experiment, text)
            return False
        return asked.approved

    def keep(self, experiment: Experiment, text: str) -> Asked:
        """Keep an experiment that is asked for; what was decided on it before stays."""
        new = Asked(name=experiment.name, identity=experiment.family, text=text, asked=_now())
        with self._changed(new) as asked:
            return asked

    def decide(self, asked: Asked, decision: Literal["approved", "revoked"], by: str) -> Asked:
        """Write a decision down, first in the ledger; a decision that another process wrote
        meanwhile stays."""
        made = Decision(decision=decision, by=by, time=_now())
        with self._changed(asked) as decided:
            self._ledger.append(
                {
                    "experiment": asked.name,
                    "message": {
                        "kind": "decision",
                        "identity": asked.identity,
                        **made.model_dump(),
                    },
                    "message_bytes": 0,
                    "tensor_bytes": 0,
                }
            )
            decided.decisions.append(made)
        return decided

    def all(self) -> list[Asked]:
        """All that was asked for, oldest first."""
        files = self.folder.glob("*.json") if self.folder.is_dir() else []
        every = [asked for file in files if (asked := _read(file)) is not None]
        return sorted(every, key=lambda asked: (asked.asked, asked.name))

    @contextmanager
    def _changed(self, asked: Asked) -> Iterator[Asked]:
        """What the file has of an experiment, to be changed; `asked` where there is no file."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        file = self.folder / _name(asked.name, asked.identity)
        with _readable(), JsonFile(file, Asked).changed(lambda: asked) as content:
            yield content


def _read(file: Path) -> Asked | None:
    with _readable():
        return JsonFile(file, Asked).read()


@contextmanager
def _readable() -> Iterator[None]:
    """Turns a file that cannot be read into a SiteProblem that says what to do."""
    try:
        yield
    except UnreadableFileError as error:
        raise SiteProblem(
            "approval",
            f"{error}; restore it, or remove it and approve the experiment again",
        ) from error


def _name(name: str, identity: str) -> str:
    return f"{name}-{identity[:12]}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
