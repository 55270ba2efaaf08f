"""The coordinator's view of the sites: connected nodes, and the sites that take part."""

import importlib.metadata
import logging
import sqlite3
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
from fedrad.exchange.names import fault_of_site
from fedrad.exchange.reasons import Reason
from fedrad.system.errors import UserError

from .declared import contradiction_of_readiness
from .failure import ExperimentFailed, Stopped
from .mailbox import Answer, Mailbox
from .members import Members, MembersError
from .records import Records

log = logging.getLogger("fedrad.server")

NODES_SECONDS = 3.0
"""Seconds between two queries for the connected nodes."""
RETRY_SECONDS = 30.0
"""Seconds before a site that failed is asked again."""
REFUSED_SECONDS = 60.0
"""Seconds before a site is asked again that refused for a temporary reason."""
TEMPORARY_REFUSALS: tuple[Reason, ...] = ("approval", "hours", "limit")
"""Refusals that end with time, or by a decision of a person at the site."""
_POLL_SECONDS = (0.1, 1.0)


class Federation:
    """The sites of one experiment, without their data.

    Parameters
    ----------
    grid
        Flower's grid of connected nodes.
    experiment
        The experiment.
    base_sha256
        Hash of the base network. Every site must have the same.
    records
        Records of the experiment.
    patience_seconds
        How long to wait without a quorum.
    stop_file
        The run stops when this file exists.
    members
        File that gives the site of each node. Without it a site has the name that it gives.

    Attributes
    ----------
    sites
        Name -> readiness of each site that takes part, connected or not.
    absent
        Name of a site or node that does not take part -> the reason.
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
        self.mailbox = Mailbox(grid)
        self._nodes: dict[int, str] = {}
        self._online: set[int] = set()
        self._nodes_read = float("-inf")
        self._ask_node_at: dict[int, float] = {}

    @property
    def connected(self) -> dict[str, int]:
        """Connected sites -> their nodes, in the order of the names."""
        nodes = {site: node for node, site in self._nodes.items() if node in self._online}
        return dict(sorted(nodes.items()))

    @property
    def deadline(self) -> float:
        """Seconds until a round closes."""
        return self.experiment.federation.deadline_minutes * 60

    def gather(self, wanted: Iterable[str] = ()) -> None:
        """Ask every connected node whether it can take part, and wait for a quorum.

        Parameters
        ----------
        wanted
            Sites to wait for as well, at most until the deadline of a round. A quorum is waited
            for until the patience ends.

        Raises
        ------
        ExperimentFailed
            If there is no quorum of training sites. The text names the absent sites and why.
        """
        wanted = set(wanted)
        started = time.monotonic()
        while True:
            self.update_nodes()
            list(self.answers(0, READY))
            waited = time.monotonic() - started
            out_of_time, out_of_patience = waited >= self.deadline, waited >= self.patience
            complete = self._quorum() and (wanted <= self.connected.keys() or out_of_time)
            reading = self.mailbox.unanswered() and not out_of_time  # a site decodes its images
            if (complete or out_of_patience) and not reading:
                break
            time.sleep(poll_interval(waited))
        for site in sorted(wanted - self.connected.keys()):
            self.absent.setdefault(site, "did not come")
        if not self._quorum():
            training = sorted(site for site in self.connected if self.sites[site].trains)
            reasons = "".join(f"\n  {name}: {why}" for name, why in sorted(self.absent.items()))
            raise ExperimentFailed(
                f"no quorum: {self.experiment.federation.quorum} training sites are needed, "
                f"{len(training)} can ({', '.join(training) or 'none'}){reasons}"
            )

    def _quorum(self) -> bool:
        training = sum(self.sites[site].trains for site in self.connected)
        return training >= self.experiment.federation.quorum

    def update_nodes(self) -> None:
        """Query the connected nodes, and ask new ones whether they can take part. Raises Stopped
        if the run was asked to stop."""
        if self._stop_file.exists():
            raise Stopped
        now = time.monotonic()
        if now - self._nodes_read >= NODES_SECONDS:
            self._online, self._nodes_read = set(self._grid.get_node_ids()), now
        busy = self.mailbox.unanswered()
        for node in sorted(self._online - self._nodes.keys() - busy):
            if self._ask_node_at.get(node, now) <= now:
                self._ask_node_at[node] = now + RETRY_SECONDS
                request = ReadyRequest(fedrad=importlib.metadata.version("fedrad"))
                self.mailbox.send(node, READY, to_record(request))

    def answers(
        self, visit: int, asked: MessageType[Request, ReplyT]
    ) -> Iterator[tuple[str, Answer[ReplyT]]]:
        """New answers of sites in a visit.

        A node that answers whether it can take part is registered. Answers to earlier visits are
        recorded as late and not used.

        Parameters
        ----------
        visit
            Number of the visit.
        asked
            Type of the visit's request.
        """
        for returned in self.mailbox.receive():
            site = self._nodes.get(returned.node, "")
            if returned.visit == 0:
                self._judge_readiness(returned.read(READY))
            elif returned.visit == visit and site:
                yield site, returned.read(asked)
            else:
                log.warning("  %s: an answer to an earlier request is not used", site)
                self.records.add(0, site, late="answer to an earlier request, not used")

    def _judge_readiness(self, answer: Answer[Readiness]) -> None:
        """Register a node. An unexpected error while its answer is judged is its own failure."""
        try:
            self._register(answer)
        except (OSError, sqlite3.Error, UserError):
            raise
        except Exception as error:
            self._register(answer.unusable(error))

    def _register(self, answer: Answer[Readiness]) -> None:
        admitted = self._admitted(answer.node)
        unnamed = admitted or f"node {answer.node}"
        if answer.reply is None:
            if answer.reason in TEMPORARY_REFUSALS:
                self._ask_node_at[answer.node] = time.monotonic() + REFUSED_SECONDS
            self._refuse(unnamed, answer.failure)
            return
        site = answer.reply.site
        if self._members is not None and admitted != site:
            self._refuse(
                unnamed,
                f"calls itself {site!r}: it must be `name` in its site.toml as it was invited",
            )
            return
        if why := fault_of_site(site, self.sites):
            self._refuse(unnamed, f"calls itself {site!r}, which {why}")
            return
        if why := contradiction_of_readiness(answer.reply, self.experiment):
            self._refuse(site, why)
            return
        if answer.reply.base_sha256 != self._base_sha256:
            self._refuse(site, "its base network differs from the coordinator's")
            return
        if site in self.connected:
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
        log.info("%s is ready (%s)", site, _describe(answer.reply))

    def _admitted(self, node: int) -> str | None:
        """The name under which a node was admitted; None if it was not, or without a list."""
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


def poll_interval(waited: float) -> float:
    """Seconds until the next query: short at first, so that a quick visit costs little."""
    least, most = _POLL_SECONDS
    return min(most, max(least, waited / 20))


def _describe(readiness: Readiness) -> str:
    trains = (
        "trains" if readiness.trains else (f"only evaluates: {readiness.does_not_train_because}")
    )
    aside = f", {readiness.set_aside} files set aside" if readiness.set_aside else ""
    left = readiness.left_out
    out = f", {left} patients left out by the site's budget" if left else ""
    return f"{trains}, {readiness.device}, {readiness.threads} threads{aside}{out}"
