"""A generator opened for use, wherever it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrad.models.settings import InputSettings
from fedrad.models.weight_files import WeightsError

from .iteration import DiffusionGenerator
from .monai_zoo import load_zoo
from .network import load_generator


@dataclass(frozen=True)
class OpenedGenerator:
    """A generator with what a person must know of it.

    `input`: the pictures it edits. `known`: outcome, in the order of conditions -> the classes (0,
    1) it can be asked for. `metadata` is that of its file, lineage included.
    """

    generator: DiffusionGenerator
    input: InputSettings
    known: Mapping[str, frozenset[int]]
    name: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def condition(self, outcome: str, *, present: bool = True) -> NDArray[np.float64]:
        """The condition (K,) that names this outcome alone. Raises WeightsError for one that the
        generator was not trained on, or in one class only."""
        if outcome not in self.known:
            raise WeightsError(
                f"{self.name} was not trained on {outcome!r}; it knows "
                f"{', '.join(map(repr, self.known))}"
            )
        if int(present) not in self.known[outcome]:
            raise WeightsError(
                f"{self.name} knows no direction {'towards' if present else 'away from'} "
                f"{outcome!r}: it was trained on one class of it only, or has no prompt for it"
            )
        found = np.full(len(self.known), np.nan)
        found[list(self.known).index(outcome)] = float(present)
        return found


def open_generator(path: Path) -> OpenedGenerator:
    """A generator's file, or the folder of the model zoo's. Raises WeightsError."""
    if path.is_dir():
        generator, pictures = load_zoo(path)
        known = {o: {1, int(f"no {o}" not in generator.prompts)} for o in generator.outcomes}
        return OpenedGenerator(
            generator, pictures, {o: frozenset(c) for o, c in known.items()}, path.name
        )
    network, record, metadata = load_generator(path)
    both = {o: all(record.classes.get(o, ())) for o in record.outcomes}
    classes = {o: frozenset((0, 1) if both[o] else ()) for o in record.outcomes}
    return OpenedGenerator(network, record.input, classes, path.name, metadata)
