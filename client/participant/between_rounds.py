"""Tensors that a site stores between rounds and never sends: moments of the optimizer, and local
normalisation."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedrad.client.problems import SiteProblem
from fedrad.system.files import replacing
from fedrad.system.folders import make_folder

ROUNDS = 2
"""Number of rounds whose tensors are stored: the last, and the one before it. After a crash the
coordinator may repeat a round, which then starts again from the earlier one."""


class RoundTensors:
    """Store of the tensors of the last rounds; a folder with one file per round."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def before(self, round_: int) -> dict[str, Tensor]:
        """Tensors of the last round before `round_` that the site trained; empty if there is none.

        Raises SiteProblem for a damaged file, as training without it would give another result.
        """
        last = self.last_before(round_)
        if last is None:
            return {}
        file = self._file(last)
        try:
            tensors: dict[str, Tensor] = load_file(file)
        except (SafetensorError, OSError) as error:
            raise SiteProblem(
                "internal", f"{file} cannot be read ({error}): delete it to start from the base"
            ) from error
        return tensors

    def last_before(self, round_: int) -> int | None:
        """Number of the last round before `round_` that is stored; None if there is none."""
        return max((number for number in self._rounds() if number < round_), default=None)

    def save(self, round_: int, tensors: dict[str, Tensor]) -> None:
        """Store the tensors of a round; nothing is written if there are none."""
        if not tensors:
            return
        make_folder(self.folder)
        with replacing(self._file(round_)) as temporary:
            save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
        past = [number for number in self._rounds() if number <= round_]
        for number in set(self._rounds()) - set(past[-ROUNDS:]):
            self._file(number).unlink(missing_ok=True)

    def _file(self, round_: int) -> Path:
        return self.folder / f"round-{round_:05}.safetensors"

    def _rounds(self) -> list[int]:
        files = self.folder.glob("round-*.safetensors") if self.folder.is_dir() else []
        return sorted(int(file.stem.removeprefix("round-")) for file in files)
