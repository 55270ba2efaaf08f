"""A visit: one request to all sites, repeated until they have answered or the time is over."""

import itertools
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from flwr.app import RecordDict

from fedrad.exchange.messages import MessageType, ReplyT, Request
from fedrad.exchange.reasons import Reason
from fedrad.system.errors import UserError

from .failure import ExperimentFailed, Stopped
from .federation import REFUSED_SECONDS, RETRY_SECONDS, Federation, poll_interval
from .mailbox import Answer

log = logging.getLogger("fedrad.server")

REMIND_SECONDS = 600.0
"""Seconds between two messages that a quorum is still missing."""
TIME_REFUSALS: tuple[Reason, ...] = ("hours", "limit")
"""Refusals by a site that will answer at another time of the day."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Verdict:
    """Whether an answer settles a request.

    Attributes
    ----------
    settled
        The site is not asked again, because its answer is accepted or would be the same.
    why
        Reason of a failure.
    ask_again_now
        The request failed, and is repeated without a delay.
    """

    settled: bool
    why: str = ""
    ask_again_now: bool = False


SETTLED = Verdict(True)


class Visit(Generic[ReplyT]):
    """A request to the sites of a federation, with its repetitions and its deadline.

    Sites may connect and disconnect during a visit. A site that failed is asked again after
    RETRY_SECONDS. Without `lacking` this delay is doubled after each failure.

    With `lacking`, the visit ends when all connected sites have answered, or at the deadline,
    provided that nothing is lacking. Otherwise it goes on until the patience ends.

    Without `lacking`, the visit ends when all sites have settled, or at the deadline. Sites that
    are not connected are waited for until the patience ends at most. A connected site that refused
    because of the time of day is waited for beyond the deadline, until the patience ends.

    Parameters
    ----------
    federation
        The sites.
    message_type
        Type of the request.
    content
        Makes the request to a site.
    take
        Judges the answer of a site.
    settled
        Sites that are not asked. Sites whose answer settles the request are added.
    lacking
        Says what is still missing, as text; empty if nothing is.
    deadlines
        Deadline of the visit, in deadlines of a round.
    """

    def __init__(
        self,
        federation: Federation,
        message_type: MessageType[Request, ReplyT],
        content: Callable[[str], RecordDict],
        take: Callable[[str, Answer[ReplyT]], Verdict],
        *,
        settled: set[str],
        lacking: Callable[[], str] | None = None,
        deadlines: int = 1,
    ) -> None:
        self.federation = federation
        self.message_type = message_type
        self.content = content
        self.take = take
        self.settled = settled
        self.lacking = lacking
        self.number = next(_numbers)
        self._deadline = federation.deadline * deadlines
        self._started = time.monotonic()
        self._lacking_since: float | None = None
        self._remind_at = 0.0
        self._ask_at: dict[str, float] = {}
        self._failures: dict[str, str] = {}
        self._attempts: Counter[str] = Counter()
        self._refused_for_time: set[str] = set()

    def run(self) -> None:
        """Ask the sites and wait for their answers.

        At the end, `take` gets an answer "lost" or "timeout" for each site without one.

        Raises
        ------
        ExperimentFailed
            If something is still lacking when the patience ends.
        """
        while True:
            self.federation.update_nodes()
            self._send()
            for site, answer in self.federation.answers(self.number, self.message_type):
                self._judge(site, answer)
            if self._over():
                break
            time.sleep(poll_interval(time.monotonic() - self._started))
        for site in sorted(self.federation.sites.keys() - self.settled - self._failures.keys()):
            if (node := self.federation.connected.get(site, 0)) in self._unanswered():
                self.take(site, Answer(node, "timeout", failure="no answer by the deadline"))
            else:
                self.take(site, Answer(node, "lost", failure="its node is not connected"))

    def reject(self, site: str, why: str) -> None:
        """Mark the answer of a site as failed, so that the site is asked again later."""
        times = 2 ** self._attempts[site] if self.lacking is None else 1
        self._attempts[site] += 1
        self._postpone(site, why, RETRY_SECONDS * times)

    def _postpone(self, site: str, why: str, seconds: float) -> None:
        self.settled.discard(site)
        self._failures[site] = why
        self._ask_at[site] = time.monotonic() + seconds

    def _send(self) -> None:
        busy, now = self.federation.mailbox.unanswered(), time.monotonic()
        for site, node in self.federation.connected.items():
            due = self._ask_at.get(site, now) <= now
            if due and site not in self.settled and node not in busy:
                self.federation.mailbox.send(
                    node, self.message_type, self.content(site), self.number
                )

    def _judge(self, site: str, answer: Answer[ReplyT]) -> None:
        if answer.reason in TIME_REFUSALS:
            if site not in self._refused_for_time:
                self._refused_for_time.add(site)
                self.take(site, answer)
            self._postpone(site, answer.failure, REFUSED_SECONDS)
            return
        self._refused_for_time.discard(site)
        verdict = self._verdict(site, answer)
        if verdict.settled:
            self.settled.add(site)
            if verdict.why:
                self._failures[site] = verdict.why
        elif not verdict.ask_again_now:
            self.reject(site, verdict.why)

    def _verdict(self, site: str, answer: Answer[ReplyT]) -> Verdict:
        """What `take` says. An unexpected error while it judges is the failure of this site and of
        no other; errors of the coordinator's disk end the run, which can be resumed."""
        try:
            return self.take(site, answer)
        except (OSError, sqlite3.Error, UserError, Stopped):
            raise
        except Exception as error:
            return self.take(site, answer.unusable(error))

    def _over(self) -> bool:
        now = time.monotonic()
        past = now - self._started >= self._deadline
        if not past and not self._all_answered():
            return False
        if self.lacking is None:
            complete = self.federation.sites.keys() <= self.settled
            past = past and not self._refused_for_time & self.federation.connected.keys()
            return past or complete or now - self._started >= self.federation.patience
        if not (lacking := self.lacking()):
            return True
        self._lacking_since = self._lacking_since or now
        failures = "; ".join(f"{site}: {why}" for site, why in sorted(self._failures.items()))
        text = f"{lacking} ({failures or 'too few sites are connected'})"
        if now - self._lacking_since >= self.federation.patience and (
            past or not self._unanswered()
        ):
            raise ExperimentFailed(text)
        if now >= self._remind_at:
            self._remind_at = now + REMIND_SECONDS
            log.warning("Waiting: %s", text)
            self.federation.records.add(0, "", {}, waiting=text)
        return False

    def _unanswered(self) -> set[int]:
        return self.federation.mailbox.unanswered(self.number)

    def _all_answered(self) -> bool:
        """Whether every connected site has settled or failed. A site that still works on an
        earlier request has done neither."""
        busy = self.federation.mailbox.unanswered()
        return all(
            site in self.settled or (site in self._failures and node not in busy)
            for site, node in self.federation.connected.items()
        )
