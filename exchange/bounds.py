"""Ranges of the numbers of messages, and largest lengths of their lists: either side may be
hostile."""

from typing import Annotated

from pydantic import Field

MOST_ROUNDS = 10_000
MOST_OUTCOMES = 50
MOST_MODELS = 1000
"""Models that one request or answer may name: the shared ones, and the local-only one of each
site."""
MOST_MIXTURES = 12
"""Mixtures with the base in one request: those of `evaluation.ensemble`, and the trained model."""
MOST_FOLDS = 400
"""20 folds of 20 repeats."""
MOST_SUBGROUPS = 100_000

RoundNumber = Annotated[int, Field(ge=0, le=MOST_ROUNDS)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Threads = Annotated[int, Field(ge=1, le=10_000)]
Seconds = Annotated[float, Field(ge=0, le=10**8)]
"""At most three years."""
Loss = Annotated[float, Field(ge=0, le=10**12)]
"""A mean cross-entropy or squared error; in the millions where a network has diverged."""
Variance = Annotated[float, Field(ge=0, le=1)]
"""Of an AUROC or a difference of two, which are in [-1, 1]."""
Epsilon = Annotated[float, Field(gt=0, le=10**6)]
LogitLine = Annotated[float, Field(ge=-(10**6), le=10**6)]
"""Intercept or slope of a line of logits."""
