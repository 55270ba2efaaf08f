"""The strategies, by the name that `federation.strategy` gives them.

Flower's own strategies need all replies in memory with the same keys in each, keep their moments
by those keys from the first round on, and replace the whole model by what came back; here updates
lie on disk, stages bring new tensors, and running variances are pooled. The tests hold the figures
against Flower's.
"""

from fedrad.exchange.experiment import FederationSettings
from fedrad.exchange.strategies import StrategyName

from .fedadam import FedAdam
from .fedavg import FedAvg
from .fedavgm import FedAvgM
from .fedyogi import FedYogi
from .krum import Krum
from .median import Median
from .strategy import Strategy
from .trimmed_mean import TrimmedMean

STRATEGIES: dict[StrategyName, type[Strategy]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
}


def strategy_of(settings: FederationSettings) -> Strategy:
    """The strategy that an experiment asks for."""
    return STRATEGIES[settings.strategy](settings.server)


__all__ = ["STRATEGIES", "Strategy", "strategy_of"]
