"""The strategies, by their names in the setting `federation.strategy`.

Flower's strategies need all replies in memory with the same tensors in each, fix the tensors of
their moments in the first round, and replace the whole model. Here, updates are on disk, stages
add tensors, and running variances are pooled. Tests compare the results with Flower's.
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
    """The strategy of an experiment's settings."""
    return STRATEGIES[settings.strategy](settings.server)


__all__ = ["STRATEGIES", "Strategy", "strategy_of"]
