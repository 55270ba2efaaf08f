"""The coordinator's view of the sites: who is there, and what of them may be used."""

import importlib.metadata
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from flwr.serverapp import Grid

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.messages import (
    READY,
    MessageType,
    Readiness,
    ReadyRequest,
    ReplyT,
    Request,
    to_record,
)
from fedrad.exchange.reasons import Reason

from .mailbox import Answer, Post
from .members import Members, MembersError
from .records import Records

log = logging.getLogger("fedrad.server")

LOOK_SECONDS = 3.0
"""How often to look which nodes are connected."""
RETRY_SECONDS = 30.0
"""How long to leave a site that failed before it is asked again."""
LATER_SECONDS = 60.0
"""How long to leave a site for which it is not the time."""
LATER: tuple[Reason, ...] = ("approval", "hours", "limit")
"""Refusals that time changes, or a person at the site."""
_POLL_SECONDS = (0.1, 1.0)


class ExperimentFailed(Exception):
    """The experiment cannot go on; the text says why and what to do."""


class Stopped(Exception):
    """The coordinator asked for the run to stop."""


class Federation:
    """The sites of one experiment. Nothing here knows a site's data.

    `patience_seconds`: how long to wait where there is no quorum. `stop_file`: ends the run once
    it exists. `members`: file of which node is which site; without one, each is what it says.
    """

    def __init__(
        self,
        grid: Grid,
        experiment: Experiment,
        base_sha256: str,
        records: Records,
        *,
        patience_seconds: float,
        stop_file: Path,
        members: Path | None = None,
    ) -> None:
        self.experiment = experiment
        self.schedule = experiment.schedule
        self.records = records
        self.sites: dict[str, Readiness] = {}
        self.absent: dict[str, str] = {}
        self._grid = grid
        self._base_sha256 = base_sha256
        self.patience = patience_seconds
        self._stop_file = stop_file
        self._members = members
        self.post = Post(grid)
        self._nodes: dict[int, str] = {}
        self._online: set[int] = set()
        self._looked = float("-inf")
        self._ask_node_at: dict[int, float] = {}

    @property
    def here(self) -> dict[str, int]:
        """Connected sites and their nodes, in the order of their names."""
        nodes = {site: node for node, site in self._nodes.items() if node in self._online}
        return dict(sorted(nodes.items()))

    @property
    def deadline(self) -> float:
        """Seconds that a round is given."""
        return self.experiment.federation.deadline_minutes * 60

    def meet(self, wanted: Iterable[str] = ()) -> None:
        """Ask every connected node whether it can take part, until those wanted and a quorum can.

        Those wanted are waited for until a round's deadline, a quorum as long as patience lasts.
        Raises ExperimentFailed where no quorum of training sites came together, saying who lacks
        what.
        """
        wanted = set(wanted)
        started = time.monotonic()
        while True:
            self.look()
            list(self.answers(0, READY))
            waited = time.monotonic() - started
            out_of_time, out_of_patience = waited >= self.deadline, waited >= self.patience
            complete = self._quorum() and (wanted <= self.here.keys() or out_of_time)
            reading = self.post.busy() and not out_of_time  # many images, for the first time
            if (complete or out_of_patience) and not reading:
                break
            time.sleep(pause(waited))
        for site in sorted(wanted - self.here.keys()):
            self.absent.setdefault(site, "did not come")
        if not self._quorum():
            training = sorted(site for site in self.here if self.sites[site].trains)
            reasons = "".join(f"\n  {name}: {why}" for name, why in sorted(self.absent.items()))
            raise ExperimentFailed(
                f"no quorum: {self.experiment.federation.quorum} training sites are needed, "
                f"{len(training)} can ({', '.join(training) or 'none'}){reasons}"
            )

    def _quorum(self) -> bool:
        training = sum(self.sites[site].trains for site in self.here)
        return training >= self.experiment.federation.quorum

    def look(self) -> None:
        """See which nodes are connected; ask those that are new. Raises Stopped where the run was
        asked to stop."""
        if self._stop_file.exists():
            raise Stopped
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._online, self._looked = set(self._grid.get_node_ids()), now
        busy = self.post.busy()
        for node in sorted(self._online - self._nodes.keys() - busy):
            if self._ask_node_at.get(node, now) <= now:
                self._ask_node_at[node] = now + RETRY_SECONDS
                request = ReadyRequest(fedrad=importlib.metadata.version("fedrad"))
                self.post.send(node, READY, to_record(request))

    def answers(
        self, visit: int, asked: MessageType[Request, ReplyT]
    ) -> Iterator[tuple[str, Answer[ReplyT]]]:
        """What sites answered to what they were `asked` in a visit. A node that introduces itself
        is welcomed; what comes to earlier visits is too late."""
        for returned in self.post.receive():
            site = self._nodes.get(returned.node, "")
            if returned.visit == 0:
                self._welcome(returned.read(READY))
            elif returned.visit == visit and site:
                yield site, returned.read(asked)
            else:
                log.warning("  %s: an answer to an earlier request is not used", site)
                self.records.add(0, site, late="answer to an earlier request, not used")

    def _welcome(self, answer: Answer[Readiness]) -> None:
        admitted = self._admitted(answer.node)
        unnamed = admitted or f"node {answer.node}"
        if answer.reply is None:
            if answer.reason in LATER:
                self._ask_node_at[answer.node] = time.monotonic() + LATER_SECONDS
            self._refuse(unnamed, answer.failure)
            return
        site = answer.reply.site
        if self._members is not None and admitted != site:
            self._refuse(
                unnamed,
                f"calls itself {site!r}: it must be `name` in its site.toml as it was invited",
            )
            return
        if answer.reply.base_sha256 != self._base_sha256:
            self._refuse(site, "its base network differs from the coordinator's")
            return
        if site in self.here:
            self._refuse(
                unnamed,
                f"calls itself {site!r}, and a node of this name is connected: a node "
                "that was killed is let go after a minute; two sites need two names",
            )
            return
        self._nodes = {node: s for node, s in self._nodes.items() if s != site}
        self._nodes[answer.node] = site
        self.sites[site] = answer.reply
        self.absent.pop(unnamed, None)
        self.absent.pop(site, None)
        self.records.add(0, site, {"set_aside": answer.reply.set_aside}, status="ready")
        log.info("%s is ready (%s)", site, _how(answer.reply))

    def _admitted(self, node: int) -> str | None:
        """The name under which a node was admitted; None where nobody is, or not this one."""
        if self._members is None:
            return None
        try:
            return Members.read(self._members).site_of(node)
        except MembersError as error:
            raise ExperimentFailed(str(error)) from error

    def _refuse(self, name: str, why: str) -> None:
        if self.absent.get(name) != why:
            self.absent[name] = why
            self.records.add(0, name, status=f"absent: {why}")
            log.warning("%s does not take part: %s", name, why)


def pause(waited: float) -> float:
    """Seconds to the next look: short at first, so that a quick visit costs little."""
    least, most = _POLL_SECONDS
    return min(most, max(least, waited / 20))


def _how(readiness: Readiness) -> str:
    trains = (
        "trains" if readiness.trains else (f"only evaluates: {readiness.does_not_train_because}")
    )
    aside = f", {readiness.set_aside} files set aside" if readiness.set_aside else ""
    return f"{trains}, {readiness.device}, {readiness.threads} threads{aside}"
