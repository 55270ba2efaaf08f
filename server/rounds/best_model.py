"""The best global model so far, by the AUROC on validation patients, in a file."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedrad.exchange.messages import Counts
from fedrad.server.federation.federation import Federation
from fedrad.server.results.summary import BestModel, Round
from fedrad.system.files import replacing
from fedrad.system.folders import make_folder

from .open_round import OpenRound

ValidationCounts = Mapping[str, Mapping[str, Counts]]
"""Site -> outcome -> validation units of each class."""


class BestModelFile:
    """`best.safetensors` in the experiment's folder `checkpoint`.

    It holds the weights, with round and AUROC as metadata, and is used again when the experiment
    is resumed. The monitoring of a round belongs to the model with which the round started.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "best.safetensors"

    def consider(self, round_: OpenRound, result: Round) -> None:
        """Save the model with which a round started, as the sites received it, if its AUROC on
        validation patients is at least that of the best model so far."""
        aurocs = {site: of_site.auroc for site, of_site in result.sites.items()}
        auroc, best = (
            mean_within_site_auroc(aurocs, validation_units(round_.federation)),
            self.read(),
        )
        if auroc is None or (best is not None and auroc < best.auroc):
            return
        make_folder(self.file.parent)
        about = {"round": str(round_.number), "auroc": repr(auroc)}
        with replacing(self.file) as temporary:
            save_file(round_.received(), temporary, about)

    def read(self) -> BestModel | None:
        """Round and AUROC of the best model so far; None if there is none."""
        if not self.file.is_file():
            return None
        with safe_open(self.file, "pt") as file:
            about = file.metadata()
        return BestModel(round=int(about["round"]), auroc=float(about["auroc"]), final=False)

    def weights(self) -> dict[str, torch.Tensor]:
        """Weights of the best model so far."""
        return dict(load_file(self.file))


def validation_units(federation: Federation) -> ValidationCounts:
    """Validation units of each class, as the sites reported them at the start."""
    return {site: r.units.get("validation", {}) for site, r in federation.sites.items()}


def mean_within_site_auroc(
    aurocs: Mapping[str, Mapping[str, float | None]], units: ValidationCounts
) -> float | None:
    """Within-site AUROC on validation patients, mean over outcomes.

    For one outcome it is Σ P_k·N_k·AUC_k / Σ P_k·N_k over the sites k that released both AUROC and
    counts of positives P_k and negatives N_k.

    Parameters
    ----------
    aurocs
        Site -> outcome -> AUROC.
    units
        Site -> outcome -> units of each class.

    Returns
    -------
    float or None
        None if no site released AUROC and counts of any outcome.
    """
    pairs: dict[str, float] = {}
    wins: dict[str, float] = {}
    for site, of_site in aurocs.items():
        for outcome, auroc in of_site.items():
            counts = units.get(site, {}).get(outcome)
            if auroc is None or counts is None or not counts.positives or not counts.negatives:
                continue
            weight = counts.positives * counts.negatives
            pairs[outcome] = pairs.get(outcome, 0) + weight
            wins[outcome] = wins.get(outcome, 0) + weight * auroc
    return sum(wins[k] / pairs[k] for k in pairs) / len(pairs) if pairs else None
