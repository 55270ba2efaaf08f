"""Applies the site's policy to a request: whether the experiment may run here, and now.

Which figures may leave is decided where they are computed (`disclosure.py`, `evaluation.py`): the
site can decline some figures there and answer the rest of the request.
"""

from datetime import datetime
from fnmatch import fnmatchcase

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Policy, Site
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.messages import ReadyRequest, ReleaseRequest, Request, RoundRequest
from fedrad.exchange.required_release import release_fault
from fedrad.system.release import release

from .approvals import Approvals, Decision
from .columns import check_columns
from .ledger import Ledger
from .ledger_lines import LedgerError
from .membership import read_membership

LARGEST_TEXT = 64 * 1024
"""Most characters of an experiment's text that a site stores and reads."""


def check_request(
    site: Site, experiment: Experiment, text: str, request: Request, ledger: Ledger
) -> Decision | None:
    """Check a request of an experiment against the site's policy.

    Hours and limits are checked before a visit begins; a visit that has begun is finished.

    Parameters
    ----------
    site
        The site with its policy.
    experiment
        The experiment that asks.
    text
        Its text as received, which is stored for approval.
    request
        What the experiment asks.
    ledger
        The site's ledger, from which today's rounds and hours are counted.

    Returns
    -------
    Decision or None
        The decision that approves the experiment; None if the site asks for none.

    Raises
    ------
    SiteProblem
        With the reason that is sent to the coordinator: "policy" (also for a ledger that was
        changed), "approval", "version", "hours" or "limit".
    """
    try:
        return _check(site, experiment, text, request, ledger)
    except LedgerError as error:
        raise SiteProblem("policy", str(error)) from error


def _check(
    site: Site, experiment: Experiment, text: str, request: Request, ledger: Ledger
) -> Decision | None:
    policy = site.settings.policy
    if not any(fnmatchcase(experiment.name, pattern) for pattern in policy.experiments):
        raise SiteProblem(
            "policy", f"{experiment.name!r}: policy.experiments admits {list(policy.experiments)}"
        )
    check_columns(site, experiment)
    decision = None
    if site.joined:
        check_coordinator(site)
        if policy.approval:
            decision = Approvals(site.state).admits(experiment, text)
            if decision is None:
                raise SiteProblem(
                    "approval",
                    f"{experiment.name!r} waits: `fedrad-site approve FOLDER {experiment.name}`",
                )
            if policy.release == "approved":
                _check_approved_release(experiment, decision)
    if (fault := release_fault(experiment.federation.release)) is not None:
        raise SiteProblem("version", f"{experiment.name!r}: {fault}")
    now = datetime.now().astimezone()
    if not policy.is_open(now.time()):
        raise SiteProblem("hours", f"policy.hours = {policy.hours!r}, and it is {now:%H:%M}")
    if not isinstance(request, ReadyRequest | ReleaseRequest):  # these compute next to nothing
        _check_limits(policy, request, ledger, now)
    return decision


def check_still_approved(site: Site, experiment: Experiment, text: str) -> None:
    """Check, before an answer leaves, that its experiment was not revoked while it was computed.
    Parameters as in `check_request`. Raises SiteProblem("approval" or "policy")."""
    try:
        approved = Approvals(site.state).admits(experiment, text)
    except LedgerError as error:
        raise SiteProblem("policy", str(error)) from error
    if approved is None:
        raise SiteProblem(
            "approval", f"{experiment.name!r}: was revoked while the answer was computed"
        )


def _check_approved_release(experiment: Experiment, decision: Decision) -> None:
    """Raise SiteProblem("approval") unless the installed code is that of the approval."""
    if decision.release != release():
        raise SiteProblem(
            "approval",
            f"{experiment.name!r}: {decision.release_in_words()}; with policy.release = "
            f'"approved" it must be approved again: `fedrad-site approve FOLDER {experiment.name}`',
        )


def check_coordinator(site: Site) -> None:
    """Raise SiteProblem("policy") if the policy does not admit the coordinator of a site."""
    address, admitted = read_membership(site.state).address, site.settings.policy.coordinators
    if admitted and not any(fnmatchcase(address, pattern) for pattern in admitted):
        raise SiteProblem("policy", f"{address}: policy.coordinators admits {list(admitted)}")


def _check_limits(policy: Policy, request: Request, ledger: Ledger, now: datetime) -> None:
    """Check the limits per day, which count from midnight."""
    if policy.rounds_per_day is None and policy.compute_hours_per_day is None:
        return
    today = list(ledger.since(now.replace(hour=0, minute=0, second=0, microsecond=0)))
    rounds = sum(entry["message"]["kind"] == "round" for entry in today)
    most = policy.rounds_per_day
    if isinstance(request, RoundRequest) and most is not None and rounds >= most:
        raise SiteProblem("limit", f"policy.rounds_per_day = {most}: {rounds} were done today")
    hours = sum(entry.get("seconds", 0.0) for entry in today) / 3600
    longest = policy.compute_hours_per_day
    if longest is not None and hours >= longest:
        raise SiteProblem(
            "limit", f"policy.compute_hours_per_day = {longest:g}: {hours:.2f} were used today"
        )
