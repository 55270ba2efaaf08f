"""The global model of the round that did best on validation patients, kept during training."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedrad.exchange.messages import Counts
from fedrad.server.federation.federation import Federation
from fedrad.server.results.summary import Best, Round
from fedrad.system.files import replacing

from .open_round import OpenRound

Units = Mapping[str, Mapping[str, Counts]]
"""Site -> outcome -> validation units."""


class BestRound:
    """`best.safetensors` in the experiment's folder `checkpoint`: the weights, with round and AUROC
    in its metadata, so that a resumed experiment goes on with it.

    A round's monitoring is that of the model as it entered the round.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "best.safetensors"

    def consider(self, round_: OpenRound, result: Round) -> None:
        """Keep the model that entered a round, as the sites received it, if it did at least as
        well on their validation patients as the best so far."""
        aurocs = {site: of_site.auroc for site, of_site in result.sites.items()}
        auroc, best = within_site(aurocs, validation_units(round_.federation)), self.read()
        if auroc is None or (best is not None and auroc < best.auroc):
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        about = {"round": str(round_.number), "auroc": repr(auroc)}
        with replacing(self.file) as temporary:
            save_file(round_.received(), temporary, about)

    def read(self) -> Best | None:
        """Round and AUROC of the best model so far."""
        if not self.file.is_file():
            return None
        with safe_open(self.file, "pt") as file:
            about = file.metadata()
        return Best(round=int(about["round"]), auroc=float(about["auroc"]), final=False)

    def weights(self) -> dict[str, torch.Tensor]:
        """State of the best model so far."""
        return dict(load_file(self.file))


def validation_units(federation: Federation) -> Units:
    """Units of each class that the sites told of at the start."""
    return {site: r.units.get("validation", {}) for site, r in federation.sites.items()}


def within_site(aurocs: Mapping[str, Mapping[str, float | None]], units: Units) -> float | None:
    """Mean over outcomes of Σ P_k·N_k·AUC_k / Σ P_k·N_k over the sites k that released both AUROC
    and counts. `aurocs`: site -> outcome -> AUROC on validation patients."""
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
