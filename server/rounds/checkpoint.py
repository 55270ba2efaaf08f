"""The checkpoint of an experiment: one file of tensors, and `progress.json` for everything else.

`progress.json` names its file of tensors and is replaced in one step, so that a checkpoint is
consistent after a crash.
"""

import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from fedrad.exchange.figures import Missing, ModelName, Release, SplitPart
from fedrad.exchange.messages import Readiness
from fedrad.server.results.choices import Choices
from fedrad.server.results.summary import BestModel, Ensemble, Round
from fedrad.system.files import replacing, write_whole

from .global_model import GlobalModel
from .run_state import RunState

_KINDS = ("network", "sent", "moments")


class Progress(BaseModel):
    """Completed steps and their results. The summary is written from it, however the run ends."""

    experiment: str
    """Identity of the experiment."""
    started: str
    status: str = "failed"
    why: str | None = "ended from outside, or by an error that the log has"
    rounds: list[Round] = []
    sites: dict[str, Readiness] = {}
    current: list[str] = []
    """Sites that hold the model of the last broadcast."""
    baselines: list[str] = []
    """Sites that have answered the request for a local-only model."""
    untrained: dict[str, Missing] = {}
    """Site without a local-only model -> the reason."""
    ensemble: Ensemble | None = None
    best: BestModel | None = None
    validation: dict[str, Release] = {}
    """Site -> release on validation patients, from which thresholds and calibration are chosen."""
    choices: Choices | None = None
    """None before thresholds and calibrations are chosen."""
    asked: dict[SplitPart, list[ModelName]] = {}
    """Part -> models in the request for its figures. It is kept, because a site answers one such
    request: after a crash it must be the same, whichever sites have come since."""
    tested: dict[str, Release] = {}
    """Site -> release on test patients."""
    missing: dict[str, Missing] = {}
    """Site without a release on test patients -> the reason."""
    tensors: str | None = None
    """Name of the file with the tensors of this progress."""


class Checkpoint(RunState):
    """The checkpoint of one experiment, in its folder."""

    def load(self) -> Progress | None:
        """Read the progress; None before the first checkpoint. Raises ProgressError."""
        return self._read(Progress)

    def note_end(self, progress: Progress) -> None:
        """Write down how a run ended, beside the steps of the last checkpoint. Raises OSError."""
        saved = self.load()
        if saved is not None:
            ended = {"status": progress.status, "why": progress.why}
            self.save(saved.model_copy(update=ended))

    def restore(self, progress: Progress, model: GlobalModel) -> None:
        """Load the tensors of a progress into the model."""
        if progress.tensors is None:
            return
        tensors = load_file(self.folder / progress.tensors)
        network, sent, moments = (
            {n.removeprefix(f"{kind}:"): t for n, t in tensors.items() if n.startswith(f"{kind}:")}
            for kind in _KINDS
        )
        model.network.load_state_dict(network)
        model.sent = {name: value.numpy() for name, value in sent.items()}
        model.moments = {name: value.numpy() for name, value in moments.items()}

    def save(self, progress: Progress, model: GlobalModel | None = None) -> None:
        """Write the progress and, if a model is given, its tensors.

        Raises
        ------
        OSError
            If a file cannot be written. The earlier checkpoint is then unchanged.
        """
        if model is not None:
            kinds = (
                dict(model.network.state_dict()),
                {name: torch.from_numpy(value) for name, value in model.sent.items()},
                {name: torch.from_numpy(value) for name, value in model.moments.items()},
            )
            tensors = {
                f"{kind}:{name}": value.contiguous().clone()
                for kind, of_kind in zip(_KINDS, kinds, strict=True)
                for name, value in of_kind.items()
            }
            file = self.folder / f"round-{len(progress.rounds):05}.safetensors"
            with replacing(file) as temporary:
                save_file(tensors, temporary)
            progress.tensors = file.name
        write_whole(self.progress_file, progress.model_dump_json(indent=1))
        for old in self.folder.glob("round-*.safetensors"):
            if old.name != progress.tensors:
                old.unlink()
