"""Stored outputs of frozen blocks: for a fixed view they never change, so one pass is enough."""

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
from fedrad.system.folders import make_folder

from .examples import DrawnViews, View, Views, channels_last
from .network import ResNet, block_of, digest
from .settings import Block


class ActivationStore:
    """Arrays on disk by collection and key, within a limit of bytes.

    A collection is a folder with the outputs of one block under one set of weights. If space is
    short, the collections that were used least recently are removed, but none in use. If that is
    not enough, `full` becomes true and nothing more is stored. A file is written completely or not
    at all. No array is held in memory, because the operating system caches recent reads.

    Parameters
    ----------
    folder
        Where the arrays are stored; it is made if it does not exist.
    limit
        Largest total size, in bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.full = False
        self._open: set[str] = set()
        make_folder(folder)
        self._sizes = {
            collection.name: sum(file.stat().st_size for file in collection.rglob("*.npy"))
            for collection in folder.iterdir()
            if collection.is_dir()
        }

    def use(self, collections: Iterable[str]) -> None:
        """Set which collections are in use from now on; they are never removed."""
        self._open = set(collections)
        self.full = False
        for collection in self._open:
            make_folder(self.folder / collection)
            os.utime(self.folder / collection)
            self._sizes.setdefault(collection, 0)

    def get(self, collection: str, key: str) -> NDArray[np.float32] | None:
        """An array; None if it is not stored or cannot be read."""
        try:
            array: NDArray[np.float32] = np.load(self._file(collection, key))
        except (OSError, ValueError, EOFError):
            return None
        return array

    def put(self, collection: str, key: str, array: NDArray[np.float32]) -> None:
        """Store an array if there is room.

        Parameters
        ----------
        collection
            A collection in use.
        key
            Name of the array, hexadecimal.
        array
            Any shape.
        """
        if not self._make_room(array.nbytes + 128):
            self.full = True
            return
        file = self._file(collection, key)
        try:
            make_folder(file.parent)
            with replacing(file, durable=False) as temporary, temporary.open("wb") as stream:
                np.save(stream, array)
        except OSError:  # the disk is full; training goes on without stored outputs
            self.full = True
            return
        self._sizes[collection] += file.stat().st_size

    @property
    def used(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    def _file(self, collection: str, key: str) -> Path:
        return self.folder / collection / key[:2] / f"{key}.npy"

    def _make_room(self, size: int) -> bool:
        while self.used + size > self.limit:
            idle = [self.folder / collection for collection in self._sizes.keys() - self._open]
            if not idle:
                return False
            oldest = min(idle, key=lambda collection: collection.stat().st_mtime)
            shutil.rmtree(oldest)
            del self._sizes[oldest.name]
        return True


class FrozenBlocks:
    """The frozen blocks of a stage: run without gradients and, for fixed views, only once.

    A fixed view is always computed alone, stored or not. The composition of a batch changes the
    last bits of a convolution; this way a computed and a stored output are the same to the bit.

    Parameters
    ----------
    network
        The network, with its frozen blocks in evaluation mode.
    blocks
        The frozen blocks, from the image side.
    views
        Views of the examples.
    store
        Where outputs are stored; None: they are computed at every use.
    later
        Last frozen blocks of this and later stages; their outputs are stored in the same pass.
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
        self.collections: dict[Block, str] = {}
        if self.store and blocks:
            stored = {blocks[-1], *(block for block in later if block in blocks)}
            names = self._names()
            self.collections = {block: names[block] for block in stored}
            self.store.use(self.collections.values())

    @property
    def adjustments(self) -> tuple[str, ...]:
        """Sentences on what could not be stored, and why; empty if all was."""
        if self.store is None or not self.store.full:
            return ()
        return (
            f"the store of activations is full ({self.store.used / 2**30:.1f} of "
            f"{self.store.limit / 2**30:.1f} GiB, or the disk): what is not in it is computed "
            "at every use",
        )

    def _names(self) -> dict[Block, str]:
        """Collection of each block: depends on the weights up to it, the device and PyTorch."""
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
        """Outputs of the last frozen block for images (n, 1, S, S); the images if there is none."""
        return self.network.run(self.blocks, images)

    @torch.no_grad()
    def outputs(self, drawn: DrawnViews) -> Tensor:
        """Outputs of the last frozen block for drawn views."""
        if isinstance(drawn, Tensor):
            return self.run(drawn)
        return channels_last(torch.cat([self._output(view) for view in drawn]))

    def _output(self, view: View) -> Tensor:
        """Output for one view, from the last stored output or else from the image."""
        done, x = 0, None
        for count in range(len(self.blocks), 0, -1):
            x = self._stored(self.blocks[count - 1], view)
            if x is not None:
                done = count
                break
        if x is None:
            x = self.views.image(view)
        computed: list[tuple[Block, Tensor]] = []
        for block in self.blocks[done:]:
            x = channels_last(self.network.run((block,), x))  # the layout of a stored output
            computed.append((block, x))
        for block, output in reversed(computed):  # last blocks first: theirs are the smallest
            if self.store and block in self.collections:
                array = output.float().cpu().contiguous().numpy()
                self.store.put(self.collections[block], view.key, array)
        return x.float() if computed else x

    def _stored(self, block: Block, view: View) -> Tensor | None:
        if self.store is None or block not in self.collections:
            return None
        array = self.store.get(self.collections[block], view.key)
        if array is None:
            return None
        return channels_last(torch.from_numpy(array).to(self.views.device))
