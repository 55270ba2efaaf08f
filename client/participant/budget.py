"""The budget of each patient: how much a further experiment may add.

ε adds up: what leaves about a patient in several releases, each with its ε, has at most the sum
(basic composition, Dwork & Roth 2014, theorem 3.16), whichever models, outcomes and experiments
they are about.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fedrad.client.settings import Budget


@dataclass(frozen=True)
class Spent:
    """What patients have been in so far; pseudonym -> number of experiments that it trains in,
    number that count it in figures, and total ε."""

    experiments: Counter[str]
    releases: Counter[str]
    epsilon: Mapping[str, float]

    @property
    def patients(self) -> set[str]:
        """All patients of these experiments."""
        return {*self.experiments, *self.releases}

    def why_over(
        self, key: str, budget: Budget, *, trains: bool, counted: bool, planned: float
    ) -> str | None:
        """The limit that keeps a patient out of a further experiment; None if there is none.

        Parameters
        ----------
        key
            Pseudonym of the patient.
        budget
            The limits.
        trains, counted
            Whether the patient would train, and be counted in figures.
        planned
            ε that the experiment may add.
        """
        limit = budget.experiments
        if trains and limit is not None and self.experiments[key] >= limit:
            return "experiments"
        if not counted:
            return None
        if budget.releases is not None and self.releases[key] >= budget.releases:
            return "releases"
        total = self.epsilon.get(key, 0.0) + planned
        if budget.epsilon is not None and planned and total > budget.epsilon * (1 + 1e-12):
            return "epsilon"
        return None
