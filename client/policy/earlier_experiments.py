"""What was approved and done before on a site's patients, from its ledger."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ledger import LEDGER, Ledger
from .ledger_lines import LedgerEntry

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


@dataclass
class EarlierExperiment:
    """An experiment that was approved at a site, or for which it trained.

    `approved`, `by`: date and person of the first approval; "" without one. `rounds`: rounds that
    were approved, all trainings together. `answered`: rounds for which the site has trained; one
    whose stored answer was sent again counts once.
    """

    name: str
    approved: str = ""
    by: str = ""
    rounds: int = 0
    answered: int = 0

    def __str__(self) -> str:
        """It in a few words."""
        decided = f"approved by {self.by} on {self.approved}" if self.by else "without an approval"
        allowed = f" of {self.rounds}" if self.rounds else ""
        return f"{self.name}, {decided}: {self.answered}{allowed} rounds were answered"


def earlier_experiments(state: Path, *, but: str) -> list[EarlierExperiment]:
    """The experiments on these patients, oldest first.

    Parameters
    ----------
    state
        The site's state folder.
    but
        Identity of an experiment that is left out.

    Raises
    ------
    LedgerError
        If the ledger was changed.
    """
    found: dict[str, EarlierExperiment] = {}
    counted: set[tuple[str, int]] = set()
    for entry in Ledger(state / LEDGER).entries():
        message = entry["message"]
        identity = str(message.get("identity") or entry.get("identity") or entry["experiment"])
        if identity == but:
            continue
        if message["kind"] == "decision" and message["decision"] == "approved":
            one = found.setdefault(identity, EarlierExperiment(entry["experiment"]))
            if not one.by:
                one.by, one.approved = str(message["by"]), str(message["time"])[:10]
                one.rounds = _rounds(message.get("settings"))
        elif message["kind"] == "round" and _trained(entry):
            one = found.setdefault(identity, EarlierExperiment(entry["experiment"]))
            number = entry.get("number")  # of the question; earlier versions wrote none
            if number is None or (identity, number) not in counted:
                one.answered += 1
            if number is not None:
                counted.add((identity, number))
    return list(found.values())


def in_sentences(earlier: list[EarlierExperiment]) -> list[str]:
    """The earlier experiments in words, one sentence each, and the number of the new one."""
    number = len(earlier) + 1
    ordinal = _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"{number}th"
    return [f"this is the {ordinal} experiment on these patients", *map(str, earlier)]


def _trained(entry: LedgerEntry) -> bool:
    return bool(entry["message"].get("patients"))


def _rounds(settings: dict[str, Any] | None) -> int:
    """Rounds of all trainings of an experiment; 0 if its settings were not recorded."""
    if settings is None:
        return 0
    evaluation = settings["evaluation"]
    trainings = evaluation["folds"] * evaluation["repeats"] or 1
    return int(settings["federation"]["rounds"] * trainings)
