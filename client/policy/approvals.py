"""Approvals: which experiments a person at the hospital has agreed to.

An experiment is identified by all its settings: if one changes, it needs a new approval. The folds
of a cross-validation are one experiment.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.names import Name
from fedrad.system.files import PRIVATE_FOLDER, JsonFile, UnreadableFileError

from .ledger import LEDGER, Ledger

MOST_WAITING = 100
"""Most experiments that can wait for a decision; more suggest abuse."""


class Decision(BaseModel):
    """A decision: who made it, and when (UTC)."""

    decision: Literal["approved", "revoked"]
    by: str
    time: str


class ApprovalRequest(BaseModel):
    """An experiment that the site was asked to join, and the decisions on it.

    `text`: the experiment's text as received. `asked`: time of the first request (UTC).
    """

    format: Literal[1] = 1
    name: Name
    identity: str
    text: str
    asked: str
    decisions: list[Decision] = []

    @property
    def approved(self) -> bool:
        """Whether the last decision approves it."""
        return bool(self.decisions) and self.decisions[-1].decision == "approved"

    @property
    def standing(self) -> str:
        """The last decision; "waiting" without one."""
        return self.decisions[-1].decision if self.decisions else "waiting"


class Approvals:
    """`approvals/` in the site's state folder, one file per experiment. The ledger has each
    decision too."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "approvals"
        self._ledger = Ledger(state / LEDGER)

    def admits(self, experiment: Experiment, text: str) -> bool:
        """Whether an experiment is approved. A new one is stored and waits for a decision."""
        asked = _read(self.folder / _name(experiment.name, experiment.family))
        if asked is None:
            if sum(not other.decisions for other in self.all()) >= MOST_WAITING:
                raise SiteProblem(
                    "approval", f"{self.folder}: {MOST_WAITING} experiments wait already"
                )
            self.add(experiment, text)
            return False
        return asked.approved

    def add(self, experiment: Experiment, text: str) -> ApprovalRequest:
        """Store an experiment that a coordinator asks for. Earlier decisions on it stay."""
        new = ApprovalRequest(
            name=experiment.name, identity=experiment.family, text=text, asked=_now()
        )
        with self._changed(new) as asked:
            return asked

    def decide(
        self, asked: ApprovalRequest, decision: Literal["approved", "revoked"], by: str
    ) -> ApprovalRequest:
        """Record a decision, in the ledger first. Decisions that another process recorded in the
        meantime stay."""
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

    def all(self) -> list[ApprovalRequest]:
        """All experiments that were asked for, oldest first."""
        files = self.folder.glob("*.json") if self.folder.is_dir() else []
        every = [asked for file in files if (asked := _read(file)) is not None]
        return sorted(every, key=lambda asked: (asked.asked, asked.name))

    @contextmanager
    def _changed(self, asked: ApprovalRequest) -> Iterator[ApprovalRequest]:
        """The stored state of an experiment, to be changed; `asked` if there is no file yet."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
        file = self.folder / _name(asked.name, asked.identity)
        with _readable(), JsonFile(file, ApprovalRequest).changed(lambda: asked) as content:
            yield content


def _read(file: Path) -> ApprovalRequest | None:
    with _readable():
        return JsonFile(file, ApprovalRequest).read()


@contextmanager
def _readable() -> Iterator[None]:
    """Turn an unreadable file into a SiteProblem with a remedy."""
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
