"""The global model: its current weights, and the weights that were sent last."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from fedrad.exchange.encoding import Flat, Packed
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.update import Manifest, flatten, pack, unflatten, unpack
from fedrad.models.network import stage_tensors
from fedrad.models.settings import Stage
from fedrad.models.weights import StartingNetwork

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Broadcast:
    """The model of a round, packed for the sites.

    Attributes
    ----------
    make_full
        Packs the model as it is, which every site can decode.
    difference
        The difference from the last broadcast, if the encoding uses one. A site needs the model of
        the last broadcast to decode it.
    start
        Values that sites train from, (size,). Both forms decode to them.
    """

    make_full: Callable[[], tuple[Manifest, Packed]]
    difference: tuple[Manifest, Packed] | None
    start: Flat

    @cached_property
    def full(self) -> tuple[Manifest, Packed]:
        """The model as it is; packed when it is first used."""
        return self.make_full()

    @property
    def expected(self) -> Manifest:
        """The manifest that a site's update must have, except for scales and hash."""
        if self.difference is None:
            return self.full[0]
        return self.difference[0].with_reference(self.start)


class GlobalModel:
    """The global network, the model that was sent last, and the moments of the strategy.

    The encoding error of a broadcast is part of the difference between network and sent model, so
    the next broadcast contains it. This is error feedback without a separate residual.
    """

    def __init__(self, experiment: Experiment, base: StartingNetwork) -> None:
        self.experiment = experiment
        self.base = base
        self.network = copy.deepcopy(base.network)
        self.sent: Tensors = {}
        self.moments: Tensors = {}

    def broadcast(self, stage: Stage, round_: int) -> Broadcast:
        """Pack the tensors of a stage for round `round_` (from 0); store what sites decode."""
        encoding = self.experiment.federation.encoding
        if encoding == "float32":
            full = self.packed(stage, round_)
            return Broadcast(lambda: full, None, unpack(*full))
        names = self.names(stage)
        last_sent = self._tensors(self.base.network.state_dict()) | self.sent
        reference = flatten(last_sent, names)
        difference = pack(
            self._tensors(self.network.state_dict()),
            names,
            round_=round_,
            stage=stage,
            base_sha256=self.base.digest,
            encoding=encoding,
            reference=reference,
        )
        start = unpack(*difference, reference)
        sent = unflatten(difference[0], start)
        self.sent = sent
        return Broadcast(
            lambda: pack(sent, names, round_=round_, stage=stage, base_sha256=self.base.digest),
            difference,
            start,
        )

    def packed(
        self, stage: Stage, round_: int, state: Mapping[str, torch.Tensor] | None = None
    ) -> tuple[Manifest, Packed]:
        """Pack the tensors of a stage, of the global model or of another `state`."""
        tensors = self._tensors(self.network.state_dict() if state is None else state)
        return pack(
            tensors, self.names(stage), round_=round_, stage=stage, base_sha256=self.base.digest
        )

    def names(self, stage: Stage) -> list[str]:
        """Names of the tensors that are trained in a stage and shared by the sites."""
        return stage_tensors(self.network, stage, self.experiment.recipe)

    def put(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace some tensors of the network."""
        state = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in tensors.items()}
        self.network.load_state_dict(state, strict=False)

    @staticmethod
    def _tensors(state: Mapping[str, torch.Tensor]) -> Tensors:
        return {name: value.numpy() for name, value in state.items()}
