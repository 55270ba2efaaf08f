"""A generator opened for use, from a file of fedrad or a folder of the MONAI model zoo."""

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
    """A generator, with the pictures and outcomes that it can be used for."""

    generator: DiffusionGenerator
    input: InputSettings
    """Size, fit and region of the pictures that it edits."""
    known: Mapping[str, frozenset[int]]
    """Outcome -> classes (0, 1) that can be a condition; in the order of conditions."""
    name: str
    """Name of its file or folder."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata of its file, with the lineage."""

    def condition(self, outcome: str, *, present: bool = True) -> NDArray[np.float64]:
        """The condition (K,) for this outcome alone. Raises WeightsError if the generator was not
        trained on the outcome, or on one class of it only."""
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
        condition = np.full(len(self.known), np.nan)
        condition[list(self.known).index(outcome)] = float(present)
        return condition


def open_generator(path: Path) -> OpenedGenerator:
    """Open a generator's file or the model zoo's folder. Raises WeightsError if that fails."""
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
