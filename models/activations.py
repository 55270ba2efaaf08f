"""What frozen blocks make of a fixed view is constant: computed once, then read from disk."""

import os
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrad.system.files import replacing

from .examples import DrawnViews, View, Views, channels_last
from .network import ResNet, block_of, digest
from .settings import Block


class ActivationStore:
    """Arrays on disk by shelf and key, within a limit of bytes.

    A shelf holds the outputs of one block under one set of weights. Where room is needed, shelves
    that were not used lately go, but none of those in use; where that is not enough, nothing more
    is stored and `full` says so. Files are written whole or not at all. Nothing is held in
    memory; the operating system keeps what was read lately.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.full = False
        self._open: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        self._sizes = {
            shelf.name: sum(file.stat().st_size for file in shelf.rglob("*.npy"))
            for shelf in folder.iterdir()
            if shelf.is_dir()
        }

    def use(self, shelves: Iterable[str]) -> None:
        """Say which shelves are in use from now on."""
        self._open = set(shelves)
        self.full = False
        for shelf in self._open:
            (self.folder / shelf).mkdir(exist_ok=True)
            os.utime(self.folder / shelf)
            self._sizes.setdefault(shelf, 0)

    def get(self, shelf: str, key: str) -> NDArray[np.float32] | None:
        """An array, or None where it is not stored or cannot be read."""
        try:
            array: NDArray[np.float32] = np.load(self._file(shelf, key))
        except (OSError, ValueError, EOFError):
            return None
        return array

    def put(self, shelf: str, key: str, array: NDArray[np.float32]) -> None:
        """ActivationStore an array if there is room.

        Parameters
        ----------
        shelf
            One of those in use.
        key
            Hexadecimal.
        array
            Any shape.
        """
        if not self._make_room(array.nbytes + 128):
            self.full = True
            return
        file = self._file(shelf, key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file, durable=False) as temporary, temporary.open("wb") as stream:
                np.save(stream, array)
        except OSError:  # the disk is full before the limit is: training goes on without
            self.full = True
            return
        self._sizes[shelf] += file.stat().st_size

    @property
    def used(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    def _file(self, shelf: str, key: str) -> Path:
        return self.folder / shelf / key[:2] / f"{key}.npy"

    def _make_room(self, size: int) -> bool:
        while self.used + size > self.limit:
            idle = [self.folder / shelf for shelf in self._sizes.keys() - self._open]
            if not idle:
                return False
            oldest = min(idle, key=lambda shelf: shelf.stat().st_mtime)
            shutil.rmtree(oldest)
            del self._sizes[oldest.name]
        return True


class FrozenBlocks:
    """The frozen blocks of a stage, run without a graph and, for fixed views, once.

    A fixed view goes through alone, stored or not: how a batch is put together changes the last
    bits of a convolution, and so both ways give the same bits.

    Parameters
    ----------
    network
        Its frozen blocks are in evaluation mode.
    blocks
        The frozen ones, from the image side.
    views
        What training sees of the examples.
    store
        Where outputs are kept; None: they are computed at every use.
    later
        Blocks whose outputs this or a later stage starts from; they are stored in the same pass.
    """

    def __init__(
        self,
        network: ResNet,
        blocks: tuple[Block, ...],
        views: Views,
        store: ActivationStore | None = None,
        later: Iterable[Block] = (),
    ) -> None:
        self.network = network
        self.blocks = blocks
        self.views = views
        self.store = store if views.recipe.views else None
        self.shelves: dict[Block, str] = {}
        if self.store and blocks:
            kept = {blocks[-1], *(block for block in later if block in blocks)}
            names = self._names()
            self.shelves = {block: names[block] for block in kept}
            self.store.use(self.shelves.values())

    @property
    def adjustments(self) -> tuple[str, ...]:
        """What could not be stored, and why."""
        if self.store is None or not self.store.full:
            return ()
        return (
            f"the store of activations is full ({self.store.used / 2**30:.1f} of "
            f"{self.store.limit / 2**30:.1f} GiB, or the disk): what is not in it is computed "
            "at every use",
        )

    def _names(self) -> dict[Block, str]:
        """Shelf of each block: the weights up to it, and where its outputs are computed."""
        names: dict[Block, str] = {}
        chain = f"{self.views.device.type}:{torch.__version__}"
        for block in self.blocks:
            tensors = {
                name: value
                for name, value in self.network.state_dict().items()
                if block_of(name) == block and not name.endswith("num_batches_tracked")
            }
            chain = sha256(f"{chain}:{digest(tensors)}".encode()).hexdigest()
            names[block] = f"{block}-{chain[:24]}"
        return names

    @torch.no_grad()
    def run(self, images: Tensor) -> Tensor:
        """Outputs of the last frozen block for images (n, 1, S, S); the images if none is."""
        return self.network.run(self.blocks, images)

    @torch.no_grad()
    def outputs(self, drawn: DrawnViews) -> Tensor:
        """Outputs of the last frozen block for drawn views."""
        if isinstance(drawn, Tensor):
            return self.run(drawn)
        return channels_last(torch.cat([self._output(view) for view in drawn]))

    def _output(self, view: View) -> Tensor:
        """From the last block whose output is stored, or else from the image."""
        done, x = 0, None
        for count in range(len(self.blocks), 0, -1):
            x = self._stored(self.blocks[count - 1], view)
            if x is not None:
                done = count
                break
        if x is None:
            x = self.views.image(view)
        made: list[tuple[Block, Tensor]] = []
        for block in self.blocks[done:]:
            x = channels_last(self.network.run((block,), x))  # the layout it is read back in
            made.append((block, x))
        for block, output in reversed(made):  # the small ones of the last blocks first
            if self.store and block in self.shelves:
                array = output.float().cpu().contiguous().numpy()
                self.store.put(self.shelves[block], view.key, array)
        return x.float() if made else x

    def _stored(self, block: Block, view: View) -> Tensor | None:
        if self.store is None or block not in self.shelves:
            return None
        array = self.store.get(self.shelves[block], view.key)
        if array is None:
            return None
        return channels_last(torch.from_numpy(array).to(self.views.device))
