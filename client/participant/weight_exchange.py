"""Decoding and encoding of the weights that a site receives and sends."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrad.client.problems import SiteProblem
from fedrad.exchange.encoding import Flat, Packed
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.update import (
    Manifest,
    UpdateError,
    check_packed,
    flatten,
    pack,
    unflatten,
    unpack,
    values_sha256,
)
from fedrad.models.network import stage_tensors
from fedrad.models.settings import Stage
from fedrad.models.weights import StartingNetwork

from .between_rounds import RoundTensors

_RECEIVED, _LOST = "received/", "lost/"
ROUNDING = 0.01
"""Share by which a step of the global model may be longer than the clip, because it was rounded
when it was encoded."""


@dataclass(frozen=True)
class ReceivedModel:
    """The tensors that a coordinator sent, checked and decoded.

    `values`: (size,), in the order of the manifest. `sha256`: of the values, however they were
    encoded; it identifies the model.
    """

    manifest: Manifest
    values: Flat

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the values."""
        return values_sha256(self.values)


class WeightExchange:
    """Decodes received tensors and encodes those that are sent.

    If the experiment sends differences, the reference at both ends is the model of the round
    before (in the first round, the base weights). The next model is also compared with it
    (`check_step`). The encoding error of an update is added to the next update (error feedback).
    The site stores model and error of each round, so that a repeated round gives the same update.

    Parameters
    ----------
    experiment
        The experiment.
    base
        The starting weights.
    folder
        Where model and error of each round are stored.

    References
    ----------
    Error feedback: Seide et al. 2014; Karimireddy et al. 2019, Algorithm 2.
    """

    def __init__(self, experiment: Experiment, base: StartingNetwork, folder: Path) -> None:
        self.experiment = experiment
        self.base = base
        self.rounds = RoundTensors(folder)
        self._tensors = {
            name: value.cpu().float().numpy() for name, value in base.network.state_dict().items()
        }
        self._received: ReceivedModel | None = None

    def receive(
        self, manifest: Manifest, packed: Packed | None, stage: Stage, round_: int
    ) -> ReceivedModel:
        """Check and decode the tensors that the coordinator sent. The same tensors are decoded
        once.

        Parameters
        ----------
        manifest, packed
            The received tensors.
        stage, round_
            Expected stage and round; rounds count from 0.

        Returns
        -------
        ReceivedModel
            All tensors that the stage shares.

        Raises
        ------
        SiteProblem
            "reference": the tensors are differences to a model that the site does not have.
            "request": they are not the expected tensors.
        """
        if packed is None:
            raise SiteProblem("request", "the request came without its tensors")
        same = self._received is not None and self._received.manifest == manifest
        if same and (manifest.round, manifest.stage) == (round_, stage):
            assert self._received is not None
            return self._received
        names = stage_tensors(self.base.network, stage, self.experiment.recipe)
        expected = manifest.model_copy(
            update={
                "round": round_,
                "stage": stage,
                "base_sha256": self.base.digest,
                "names": names,
                "shapes": [list(self._tensors[name].shape) for name in names],
            }
        )
        reference = None
        if manifest.reference is not None:
            reference = flatten(self._tensors | self._before(_RECEIVED, round_), names)
            expected = expected.with_reference(reference)
            if manifest.reference != expected.reference:
                raise SiteProblem(
                    "reference", f"round {round_ + 1}: sent as a difference to a model not here"
                )
        try:
            check_packed(manifest, packed, expected)
            self._received = ReceivedModel(manifest, unpack(manifest, packed, reference))
        except UpdateError as error:
            raise SiteProblem("request", f"global model: {error}") from error
        return self._received

    def check_step(self, received: ReceivedModel, round_: int, *, from_base: bool) -> None:
        """Check that a global model is no further from an earlier one than the rounds between them
        can have moved it. The first round starts from the base weights themselves.

        The global model moves by at most `federation.clip` in a round, because the coordinator
        scales updates and their mean down to it. Running statistics are not learned, and only
        those of the first round are checked.

        Parameters
        ----------
        received
            The global model.
        round_
            Number of the round that starts from it, from 0; the number of all rounds for the
            final model.
        from_base
            Whether it is compared with the base weights, instead of the last global model that this
            site received: after the last round it may have been mixed with the base.

        Raises
        ------
        SiteProblem
            "implausible": it is further away.
        """
        last = None if from_base else self.rounds.last_before(round_)
        known = {} if last is None else self._before(_RECEIVED, round_)
        start = flatten(self._tensors | known, received.manifest.names)
        clip, rounds = self.experiment.federation.clip, round_ - (last or 0)
        compared = received.manifest.learned() if rounds else np.ones(len(start), bool)
        step = np.linalg.norm((received.values - start)[compared].astype(np.float64))
        allowed = clip * rounds * (1 + ROUNDING) + 1e-6 * np.linalg.norm(start[compared])
        if step > allowed:
            raise SiteProblem(
                "implausible",
                f"round {round_ + 1}: the global model is {step:.3g} from "
                f"{'the base weights' if last is None else f'that of round {last + 1}'}; "
                f"federation.clip = {clip:g} allows {clip * rounds:.3g} in {rounds} rounds",
            )

    def send(
        self, state: Mapping[str, Tensor], stage: Stage, round_: int
    ) -> tuple[Manifest, Packed]:
        """Pack the trained tensors of a stage. The encoding error is added to the next update.

        Parameters
        ----------
        state
            All tensors of the trained network, by name.
        stage, round_
            Stage and round that were trained; rounds count from 0.

        Returns
        -------
        manifest, packed
            The packed update.

        Raises
        ------
        SiteProblem
            "diverged": a value is not finite.
        """
        names = stage_tensors(self.base.network, stage, self.experiment.recipe)
        trained = {name: state[name].cpu().float().numpy() for name in names}
        if not all(np.isfinite(value).all() for value in trained.values()):
            raise SiteProblem("diverged", f"round {round_ + 1}: weights are not finite any more")
        encoding = self.experiment.federation.encoding
        encoded = encoding != "float32"
        if encoded:
            lost = self._before(_LOST, round_)
            trained = {n: value + lost[n] if n in lost else value for n, value in trained.items()}
        reference = self._base_of_update if encoded else None
        manifest, packed = pack(
            trained,
            names,
            round_=round_,
            stage=stage,
            base_sha256=self.base.digest,
            encoding=encoding,
            reference=reference,
        )
        if encoded:
            try:
                arrived = unflatten(manifest, unpack(manifest, packed, reference))
            except UpdateError as error:
                raise SiteProblem("diverged", f"round {round_ + 1}: {error}") from error
            self._keep(manifest, {name: trained[name] - arrived[name] for name in names})
        else:
            self._keep(manifest, {})
        return manifest, packed

    def skip(self, manifest: Manifest) -> None:
        """Store the received model although no update is sent: the next one is compared with it."""
        self._keep(manifest, {})

    @property
    def _base_of_update(self) -> Flat:
        assert self._received is not None
        return self._received.values

    def _keep(self, manifest: Manifest, lost: Mapping[str, NDArray[np.float32]]) -> None:
        received = unflatten(manifest, self._base_of_update)
        tensors = {_RECEIVED + name: torch.from_numpy(v) for name, v in received.items()}
        self.rounds.save(
            manifest.round,
            tensors | {_LOST + n: torch.from_numpy(v) for n, v in lost.items() if v.ndim > 1},
        )

    def _before(self, prefix: str, round_: int) -> dict[str, NDArray[np.float32]]:
        return {
            name.removeprefix(prefix): value.numpy()
            for name, value in self.rounds.before(round_).items()
            if name.startswith(prefix)
        }
