"""Approvals: which experiments a person at the hospital has agreed to.

An experiment is identified by the SHA-256 of all its settings: if one changes, it needs a new
approval. The folds of a cross-validation are one experiment.

`approvals/` has the texts of the experiments that were asked for. The decisions on them are in the
ledger, and nowhere else: a file in this folder admits nothing.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Experiment, ExperimentError, parse_experiment
from fedrad.exchange.names import NAME_PATTERN, Name
from fedrad.exchange.required_release import ReleaseName
from fedrad.exchange.wire import Hash
from fedrad.system.files import JsonFile, UnreadableFileError
from fedrad.system.folders import make_folder
from fedrad.system.release import release

from .ledger import LEDGER, Ledger
from .ledger_lines import LedgerEntry
from .officer_key import OfficerKey, check_key, is_signed, pinned_key

MOST_WAITING = 100
"""Most experiments that can wait for a decision; more suggest abuse."""
_FILE = re.compile(rf"{NAME_PATTERN}-[0-9a-f]{{64}}\.json")


Decided = Literal["approved", "revoked"]


class Decision(BaseModel):
    """A decision on an experiment, as it is in the ledger."""

    decision: Decided
    by: str
    """Who made it."""
    time: str
    """When (UTC)."""
    until: date | None = None
    """Last day on which the experiment may run."""
    runs: int | None = Field(default=None, ge=1)
    """How many runs of the coordinator may ask; a run that is resumed is another one."""
    release: ReleaseName | None = None
    """Release of fedrad that was installed when it was made; None if an older one recorded it."""
    unsigned: bool = Field(default=False, exclude=True)
    """Whether it lacks the signature of the officer's key that is set up, so that it admits
    nothing."""

    @property
    def expired(self) -> bool:
        """Whether its last day is over, by this machine's clock."""
        return self.until is not None and datetime.now().astimezone().date() > self.until

    def release_in_words(self) -> str:
        """Which release it was made with, and which is installed now."""
        made = f"release {self.release}" if self.release else "a release that was not recorded"
        return f"{self.decision} with {made}, installed is {release()}"


class ApprovalRequest(BaseModel):
    """An experiment that the site was asked to join.

    `text`: the experiment's text as received. `asked`: time of the first request (UTC).
    `decisions`: the decisions on it, oldest first; they come from the ledger and not from the file.
    """

    format: Literal[2] = 2
    name: Name
    identity: Hash
    text: str
    asked: str
    decisions: list[Decision] = Field(default=[], exclude=True)

    @property
    def standing(self) -> str:
        """The last decision; "waiting" without one; of an approval that admits nothing any more,
        why."""
        if not self.decisions:
            return "waiting"
        last = self.decisions[-1]
        if last.decision == "approved" and last.unsigned:
            return "not signed"
        return "expired" if last.expired else last.decision

    def experiment(self) -> Experiment:
        """The experiment of the stored text. Raises SiteProblem if it is not the one that the
        file is named after."""
        try:
            experiment = parse_experiment(self.text)
        except ExperimentError as error:
            raise SiteProblem(
                "approval", f"{self.name}: this version of fedrad cannot read it: {error}"
            ) from error
        if (experiment.name, experiment.family) != (self.name, self.identity):
            raise SiteProblem(
                "approval",
                f"approvals/{_name(self.name, self.identity)}: its settings have another hash than "
                "its name: the file was changed, or another version of fedrad wrote it. Remove it; "
                "the next request writes it anew",
            )
        return experiment


class Approvals:
    """`approvals/` in the site's state folder, one file per experiment, and the decisions of the
    ledger."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "approvals"
        self._ledger = Ledger(state / LEDGER)

    def admits(self, experiment: Experiment, text: str) -> Decision | None:
        """The decision that approves an experiment; None if there is none. A new experiment is
        stored and waits for a decision.

        Raises
        ------
        SiteProblem
            "approval", if the approval has expired, is not signed with the officer's key that is
            set up, or the stored text is another one.
        LedgerError
            If the ledger was changed.
        """
        asked = _read(self.folder / _name(experiment.name, experiment.family))
        entry = next(self._decisions_on(experiment.family), None)
        if asked is None:
            if entry is None and sum(not other.decisions for other in self.all()) >= MOST_WAITING:
                raise SiteProblem(
                    "approval", f"{self.folder}: {MOST_WAITING} experiments wait already"
                )
            self.add(experiment, text)
        else:
            asked.experiment()
        if entry is None:
            return None
        decision = _decision(entry, pinned_key(self.state))
        if decision.decision != "approved":
            return None
        if decision.unsigned:
            raise SiteProblem(
                "approval",
                f"{experiment.name!r}: its approval of {decision.time} is not signed with the "
                f"officer's key: `fedrad-site approve FOLDER {experiment.name} --key FILE`",
            )
        if decision.expired:
            raise SiteProblem(
                "approval",
                f"{experiment.name!r}: its approval expired after {decision.until}: "
                f"`fedrad-site approve FOLDER {experiment.name}`",
            )
        return decision

    def given(self, experiment: Experiment, text: str) -> ApprovalRequest:
        """An experiment that was sent in advance, to be decided on. It is not stored before."""
        stored = _read(self.folder / _name(experiment.name, experiment.family))
        return self._with_decisions(stored or _new(experiment, text))

    def add(self, experiment: Experiment, text: str) -> ApprovalRequest:
        """Store an experiment that a coordinator asks for, unless it is stored."""
        new = _new(experiment, text)
        make_folder(self.folder)
        file = self.folder / _name(new.name, new.identity)
        with _readable(), JsonFile(file, ApprovalRequest).changed(lambda: new) as one:
            asked = one
        return self._with_decisions(asked)

    def decide(
        self,
        asked: ApprovalRequest,
        decision: Decided,
        by: str,
        *,
        until: date | None = None,
        runs: int | None = None,
        key: OfficerKey | None = None,
    ) -> ApprovalRequest:
        """Record a decision in the ledger, and store the experiment unless it is stored.

        Parameters
        ----------
        asked
            The experiment.
        decision
            What was decided.
        by
            Who decided.
        until, runs
            Last day and number of runs of an approval; None: no limit.
        key
            The officer's key, if one is set up at this site.

        Raises
        ------
        SiteProblem
            If the key is not the one that is set up, or the stored text is another one.
        """
        check_key(self.state, key)
        experiment = asked.experiment()
        made = Decision(
            decision=decision, by=by, time=_now(), until=until, runs=runs, release=release()
        )
        message: LedgerEntry = {"kind": "decision", "identity": asked.identity}
        message |= made.model_dump(mode="json", exclude_none=True)
        if decision == "approved":
            message["settings"] = json.loads(experiment.written_out)
        sign = None if key is None else key.sign
        self._ledger.note(message, experiment=asked.name, sign=sign)
        return self.add(experiment, asked.text)

    def all(self) -> list[ApprovalRequest]:
        """All experiments that were asked for, oldest first."""
        files = self.folder.iterdir() if self.folder.is_dir() else []
        every = [_read(file) for file in files if _FILE.fullmatch(file.name)]
        decided, key = defaultdict[str, list[Decision]](list), pinned_key(self.state)
        for entry in reversed(list(self._ledger.newest("decision"))):
            decided[str(entry["message"].get("identity"))].append(_decision(entry, key))
        known = [
            one.model_copy(update={"decisions": decided[one.identity]})
            for one in every
            if one is not None
        ]
        return sorted(known, key=lambda asked: (asked.asked, asked.name))

    def _with_decisions(self, asked: ApprovalRequest) -> ApprovalRequest:
        key = pinned_key(self.state)
        made = [_decision(entry, key) for entry in self._decisions_on(asked.identity)]
        return asked.model_copy(update={"decisions": made[::-1]})

    def _decisions_on(self, identity: str) -> Iterator[LedgerEntry]:
        """Decisions of the ledger on an experiment, newest first."""
        entries = self._ledger.newest("decision", f'"{identity}"')
        return (entry for entry in entries if entry["message"].get("identity") == identity)


def _decision(entry: LedgerEntry, key: str | None) -> Decision:
    """A decision of the ledger; `key`: the officer's public key, if one is set up."""
    unsigned = key is not None and not is_signed(entry, key)
    try:
        return Decision.model_validate(entry["message"] | {"unsigned": unsigned})
    except ValidationError as error:
        raise SiteProblem(
            "approval",
            f"the ledger has a decision of {entry['time']} that this version of fedrad cannot "
            "read: install the version that wrote it, or decide again",
        ) from error


def _new(experiment: Experiment, text: str) -> ApprovalRequest:
    return ApprovalRequest(
        name=experiment.name, identity=experiment.family, text=text, asked=_now()
    )


def _read(file: Path) -> ApprovalRequest | None:
    with _readable():
        asked = JsonFile(file, ApprovalRequest).read()
    if asked is None:
        return None
    if file.name != _name(asked.name, asked.identity):
        raise SiteProblem("approval", f"{file}: is not what its name says; remove it")
    return asked.model_copy(update={"decisions": []})


@contextmanager
def _readable() -> Iterator[None]:
    """Turn an unreadable file into a SiteProblem with a remedy."""
    try:
        yield
    except UnreadableFileError as error:
        raise SiteProblem(
            "approval", f"{error}; remove it, the next request of the coordinator writes it anew"
        ) from error


def _name(name: str, identity: str) -> str:
    return f"{name}-{identity}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
