"""The network that an experiment starts from, of whichever task."""

from typing import Literal

from .progression.network import start_generator
from .progression.settings import GeneratorSettings
from .settings import ModelSettings, RecipeSettings
from .weights import Start, load_base

Task = Literal["classification", "progression"]


def load_start(
    task: Task,
    outcomes: list[str],
    model: ModelSettings,
    recipe: RecipeSettings,
    generator: GeneratorSettings,
    *,
    seed: int,
) -> Start:
    """Base weights with a fresh head, or a generator. Raises WeightsError."""
    if task == "progression":
        return start_generator(generator, model, outcomes, seed=seed)
    return load_base(model, len(outcomes), seed=seed, dropout=recipe.dropout)
