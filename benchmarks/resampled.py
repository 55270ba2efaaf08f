"""How often a test reports a difference between two equally good recipes.

    python benchmarks/resampled.py [--simulations 500]

Two recipes learn from the same patients (logistic regression, each on four of eight equally telling
measurements, so that neither is better) and are tested in the same folds. Prints a Markdown table
of the share of simulations in which each test gives p < 0.05, and of the share of intervals that
contain the true difference, 0.
"""

import argparse

import numpy as np
from scipy.stats import ttest_1samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from fedrad.stats.resampled import corrected_resampled, signed_rank


def main() -> None:
    """Print a row for each number of patients and repeats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=500)
    number = parser.parse_args().simulations
    print("| patients, folds | plain t | corrected t | its interval holds 0 | Wilcoxon | over |")
    print("| --- | --- | --- | --- | --- | --- |")
    for patients, repeats in ((100, 1), (400, 1), (100, 6), (400, 6)):
        found = np.array([_once(seed, patients, repeats) for seed in range(number)])
        plain, corrected, holds, rank = 100 * found.mean(axis=0)
        over = "6 repeats" if repeats > 1 else "5 folds"
        print(
            f"| {patients}, {repeats} × 5 | {plain:.1f} % | {corrected:.1f} % | {holds:.1f} % | "
            f"{rank:.1f} % | {over} |"
        )


def _once(seed: int, patients: int, repeats: int) -> tuple[bool, bool, bool, bool]:
    rng = np.random.default_rng(seed)
    y = np.arange(patients) % 2
    x = rng.normal(size=(patients, 8)) + 0.4 * y[:, None]
    apart = []
    for repeat in range(repeats):
        folds = StratifiedKFold(5, shuffle=True, random_state=1000 * seed + repeat)
        for train, test in folds.split(x, y):
            one, two = (
                roc_auc_score(
                    y[test],
                    LogisticRegression().fit(part[train], y[train]).predict_proba(part[test])[:, 1],
                )
                for part in (x[:, :4], x[:, 4:])
            )
            apart.append(float(one - two))
    found = corrected_resampled(apart, 0.25, 0.95)
    assert found is not None
    assert found.p is not None
    assert found.interval is not None
    runs = np.array(apart).reshape(repeats, 5).mean(axis=1).tolist()
    rank = signed_rank(runs if repeats > 1 else apart)
    plain = ttest_1samp(apart, 0.0).pvalue < 0.05
    low, high = found.interval
    return plain, found.p < 0.05, low <= 0 <= high, rank is not None and rank.p < 0.05


if __name__ == "__main__":
    main()
