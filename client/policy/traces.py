"""Whether a site has had a ledger, by what else is in its state folder."""

from pathlib import Path

from fedrad.client.problems import SiteProblem

from .ledger import LEDGER

_TRACES = ("heads.txt", "officer.pub", "approvals", "books", "experiments")
"""Files and folders that a site has only after a visit or a decision, of which the ledger tells."""


def check_ledger_is_there(state: Path) -> None:
    """Raise SiteProblem("policy") if the ledger is missing and must have been there.

    A site that joined with an earlier version of fedrad, and was never asked for anything, has no
    ledger yet.
    """
    if (state / LEDGER).exists():
        return
    found = next((name for name in _TRACES if (state / name).exists()), None)
    if found is not None:
        raise SiteProblem(
            "policy",
            f"{state / LEDGER}: is missing, though this site has had one ({found} is beside it). "
            "Nothing leaves without it: restore it from a backup, and find out who removed it",
        )
