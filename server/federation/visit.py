"""One visit: the same request to all sites, until they have answered or the time is up."""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from flwr.app import RecordDict

from fedrad.exchange.messages import MessageType, ReplyT, Request
from fedrad.exchange.reasons import Reason

from .federation import LATER_SECONDS, RETRY_SECONDS, ExperimentFailed, Federation, pause
from .mailbox import Answer

log = logging.getLogger("fedrad.server")

REMIND_SECONDS = 600.0
"""How often to say that a quorum is still lacking."""
OTHER_TIMES: tuple[Reason, ...] = ("hours", "limit")
"""Refusals of a site that will answer at another time of the day."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Verdict:
    """What an answer amounts to: `settled`, or failed and `why`, or to be asked again `at_once`."""

    settled: bool
    why: str = ""
    at_once: bool = False


SETTLED = Verdict(True)


class Visit(Generic[ReplyT]):
    """A visit to the sites of a federation that are not `settled`.

    `content` makes a site's request, `take` judges its answer. Sites may come, and come back, while
    it lasts; one that failed is asked again after RETRY_SECONDS, without `lacking` ever more seldom
    (each time after twice as long). It ends when all that are connected have answered, or at the
    deadline (`deadlines` times that of a round). `lacking`, asked whenever it could end, says what
    is still missing; while it is not empty the visit goes on, as long as patience lasts. Without
    it, sites that are away are waited for until the deadline or patience ends, and those for which
    it is not the time of day as long as patience lasts.
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
        self._tries: Counter[str] = Counter()
        self._at_other_times: set[str] = set()

    def run(self) -> None:
        """Visit. Those without an answer are handed to `take` as "lost" or "timeout" at the end.
        Raises ExperimentFailed where patience is over and there is not enough."""
        while True:
            self.federation.look()
            self._send()
            for site, answer in self.federation.answers(self.number, self.message_type):
                self._judge(site, answer)
            if self._over():
                break
            time.sleep(pause(time.monotonic() - self._started))
        for site in sorted(self.federation.sites.keys() - self.settled - self._failures.keys()):
            if (node := self.federation.here.get(site, 0)) in self._waiting():
                self.take(site, Answer(node, "timeout", failure="no answer by the deadline"))
            else:
                self.take(site, Answer(node, "lost", failure="its node is not connected"))

    def reject(self, site: str, why: str) -> None:
        """Take back that a site has settled: it is asked again later."""
        times = 2 ** self._tries[site] if self.lacking is None else 1
        self._tries[site] += 1
        self._later(site, why, RETRY_SECONDS * times)

    def _later(self, site: str, why: str, seconds: float) -> None:
        self.settled.discard(site)
        self._failures[site] = why
        self._ask_at[site] = time.monotonic() + seconds

    def _send(self) -> None:
        busy, now = self.federation.post.busy(), time.monotonic()
        for site, node in self.federation.here.items():
            due = self._ask_at.get(site, now) <= now
            if due and site not in self.settled and node not in busy:
                self.federation.post.send(node, self.message_type, self.content(site), self.number)

    def _judge(self, site: str, answer: Answer[ReplyT]) -> None:
        if answer.reason in OTHER_TIMES:
            if site not in self._at_other_times:
                self._at_other_times.add(site)
                self.take(site, answer)
            self._later(site, answer.failure, LATER_SECONDS)
            return
        self._at_other_times.discard(site)
        verdict = self.take(site, answer)
        if verdict.settled:
            self.settled.add(site)
        elif not verdict.at_once:
            self.reject(site, verdict.why)

    def _over(self) -> bool:
        now = time.monotonic()
        past = now - self._started >= self._deadline
        if not past and not self._all_answered():
            return False
        if self.lacking is None:
            complete = self.federation.sites.keys() <= self.settled
            past = past and not self._at_other_times & self.federation.here.keys()
            return past or complete or now - self._started >= self.federation.patience
        if not (lacking := self.lacking()):
            return True
        self._lacking_since = self._lacking_since or now
        said = "; ".join(f"{site}: {why}" for site, why in sorted(self._failures.items()))
        text = f"{lacking} ({said or 'too few sites are connected'})"
        if now - self._lacking_since >= self.federation.patience and (past or not self._waiting()):
            raise ExperimentFailed(text)
        if now >= self._remind_at:
            self._remind_at = now + REMIND_SECONDS
            log.warning("Waiting: %s", text)
            self.federation.records.add(0, "", {}, waiting=text)
        return False

    def _waiting(self) -> set[int]:
        return self.federation.post.busy(self.number)

    def _all_answered(self) -> bool:
        """Whether every connected site has settled or failed. One that still works on an earlier
        request has not."""
        busy = self.federation.post.busy()
        return all(
            site in self.settled or (site in self._failures and node not in busy)
            for site, node in self.federation.here.items()
        )
