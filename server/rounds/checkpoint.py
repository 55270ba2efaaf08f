"""Where an experiment stands, on disk: one file of tensors, one of everything else.

`progress.json` names its file of tensors and is replaced in one step, so that what is found after
a crash is always of one piece.
"""

import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from fedrad.exchange.figures import Missing, Release
from fedrad.exchange.messages import Readiness
from fedrad.server.results.choices import Choices
from fedrad.server.results.summary import Best, Ensemble, Round
from fedrad.system.files import replacing, write_whole

from .global_model import GlobalModel
from .run_state import RunState

_KINDS = ("network", "sent", "moments")


class Progress(BaseModel):
    """What has been done and found. The summary is written from it however the run ends."""

    experiment: str
    """Identity of the experiment."""
    started: str
    status: str = "failed"
    why: str | None = "an unexpected error; see the log"
    rounds: list[Round] = []
    sites: dict[str, Readiness] = {}
    current: list[str] = []
    """Sites that hold the model of the last broadcast."""
    baselines: list[str] = []
    """Sites whose local-only model is settled."""
    untrained: dict[str, Missing] = {}
    """Sites without a local-only model, with the reason."""
    ensemble: Ensemble | None = None
    best: Best | None = None
    validation: dict[str, Release] = {}
    """Site -> what it released on validation patients; what is chosen follows from it."""
    choices: Choices | None = None
    """None before they were made."""
    tested: dict[str, Release] = {}
    """Site -> what it released on test patients."""
    missing: dict[str, Missing] = {}
    tensors: str | None = None
    """File of the tensors that belong to this."""


class Checkpoint(RunState):
    """The checkpoint of one experiment, in a folder of its own."""

    def load(self) -> Progress | None:
        """Where the experiment stood; None before its first checkpoint."""
        if not self.progress_file.is_file():
            return None
        return Progress.model_validate_json(self.progress_file.read_text(encoding="utf-8"))

    def restore(self, progress: Progress, model: GlobalModel) -> None:
        """Put the tensors that belong to a progress into the model."""
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
        """Write where the experiment stands; with a model, its tensors too. Raises OSError, and
        then the checkpoint is as it was."""
        if model is not None:
            kinds = (
                dict(model.network.state_dict()),
                {name: torch.from_numpy(value) for name, value in model.sent.items()},
                {name: torch.from_numpy(value) for name, value in model.moments.items()},
            )
            tensors = {
                f"{kind}:{name}": value.contiguous().clone()
                for kind, held in zip(_KINDS, kinds, strict=True)
                for name, value in held.items()
            }
            file = self.folder / f"round-{len(progress.rounds):05}.safetensors"
            with replacing(file) as temporary:
                save_file(tensors, temporary)
            progress.tensors = file.name
        write_whole(self.progress_file, progress.model_dump_json(indent=1))
        for old in self.folder.glob("round-*.safetensors"):
            if old.name != progress.tensors:
                old.unlink()
