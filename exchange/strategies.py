"""Names and settings of the aggregation strategies, and what each requires of an experiment.

How a strategy combines updates is in `server.rounds.strategies`. Its requirements are checked here,
so that coordinator and site refuse the same experiments.
"""

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from fedrad.models.settings import Settings

StrategyName = Literal["fedavg", "fedavgm", "fedadam", "fedyogi", "median", "trimmed-mean", "krum"]
"""`federation.strategy`."""


class ServerSettings(Settings):
    """`[federation.server]`: settings of the strategies; each strategy reads its own."""

    learning_rate: float | None = Field(default=None, gt=0.0)
    """Learning rate of fedavgm (default 1), fedadam and fedyogi (default 0.001)."""
    momentum: float | None = Field(default=None, ge=0.0, lt=1.0)
    """First-moment decay: momentum β of fedavgm, β₁ of fedadam and fedyogi (default 0.9 each)."""
    beta_2: float = Field(default=0.99, ge=0.0, lt=1.0)
    """Second-moment decay β₂ of fedadam and fedyogi."""
    tau: float = Field(default=1e-3, gt=0.0)
    """Adaptivity τ of fedadam and fedyogi, added to the square root of the second moment."""
    trim: float = Field(default=0.2, gt=0.0, lt=0.5)
    """Share of the sites' values that trimmed-mean leaves out at each end."""
    byzantine: int = Field(default=1, ge=1)
    """Number f of hostile sites that krum tolerates."""


SETTINGS_READ: dict[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedavgm": ("learning_rate", "momentum"),
    "fedadam": ("learning_rate", "momentum", "beta_2", "tau"),
    "fedyogi": ("learning_rate", "momentum", "beta_2", "tau"),
    "median": (),
    "trimmed-mean": ("trim",),
    "krum": ("byzantine",),
}
"""Strategy -> the settings of `[federation.server]` that it reads."""


def unread_settings(name: StrategyName, server: ServerSettings) -> list[str]:
    """Settings that the experiment states although its strategy does not read them."""
    return sorted(server.model_fields_set.difference(SETTINGS_READ[name]))


def check_strategy(name: StrategyName, server: ServerSettings, quorum: int) -> None:
    """Check what a strategy requires of an experiment.

    Parameters
    ----------
    name
        The strategy.
    server
        Its settings.
    quorum
        Smallest number of sites whose updates complete a round.

    Raises
    ------
    ValueError
        The experiment does not meet it; the text says what to change.
    """
    if name in _CHECKS:
        _CHECKS[name](server, quorum)


def _check_trimmed_mean(server: ServerSettings, quorum: int) -> None:
    """If less than one site is trimmed, the result is the plain mean."""
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
"""Checks of the strategies that have requirements."""
