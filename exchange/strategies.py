"""Strategies as an experiment names them: their figures, and what each asks of the experiment.

How they combine updates is the coordinator's matter (`server.rounds.strategies`). What they ask is
checked here, so that coordinator and site refuse the same experiments.
"""

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from fedrad.models.settings import Settings

StrategyName = Literal["fedavg", "fedavgm", "fedadam", "fedyogi", "median", "trimmed-mean", "krum"]
"""`federation.strategy`."""


class ServerSettings(Settings):
    """`[federation.server]`: figures of the strategy; each strategy reads its own."""

    learning_rate: float | None = Field(default=None, gt=0.0)
    """Of fedavgm (1 unless set), fedadam and fedyogi (0.001 unless set)."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Of fedavgm; β₁ of fedadam and fedyogi."""
    beta_2: float = Field(default=0.99, ge=0.0, lt=1.0)
    tau: float = Field(default=1e-3, gt=0.0)
    """Adaptivity of fedadam and fedyogi: what is added to the root of the second moment."""
    trim: float = Field(default=0.2, gt=0.0, lt=0.5)
    """Share of the sites' values that trimmed-mean leaves out at either end."""
    byzantine: int = Field(default=1, ge=1)
    """Sites that krum reckons with as hostile."""


def check_strategy(name: StrategyName, server: ServerSettings, quorum: int) -> None:
    """Check what a strategy asks of an experiment. Raises ValueError saying what to change.

    Parameters
    ----------
    name
        The strategy.
    server
        Its figures.
    quorum
        Fewest sites whose updates make a round.
    """
    if name in _CHECKS:
        _CHECKS[name](server, quorum)


def _check_trimmed_mean(server: ServerSettings, quorum: int) -> None:
    """A trim of less than one site leaves the plain mean."""
    if quorum * server.trim < 1:
        raise ValueError(
            f'strategy = "trimmed-mean" with trim = {server.trim:g} leaves out nobody at a '
            f"quorum of {quorum}: raise the quorum or federation.server.trim"
        )


def _check_krum(server: ServerSettings, quorum: int) -> None:
    """The proof needs n ≥ 2f + 3 sites (Blanchard et al. 2017, Proposition 4.2)."""
    if quorum < 2 * server.byzantine + 3:
        raise ValueError(
            f'strategy = "krum" with byzantine = {server.byzantine} needs a quorum of at least '
            f"{2 * server.byzantine + 3}"
        )


_CHECKS: dict[StrategyName, Callable[[ServerSettings, int], None]] = {
    "trimmed-mean": _check_trimmed_mean,
    "krum": _check_krum,
}
"""Strategies that ask something of the experiment."""
