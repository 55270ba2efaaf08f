"""Leave-one-site-out: tests at each site a model that was trained without it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tomlkit
from scipy.special import expit, logit

from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import read_experiment
from fedrad.server.results.summary import Cell
from fedrad.stats.intervals import z_of
from fedrad.stats.new_site import FEWEST_SITES, NewSite, meta_analysis
from fedrad.system.files import write_whole

from .series import run_or_resume


def leave_one_site_out(
    experiment_file: Path, sites: dict[str, Path], out: Path, *, state: Path | None = None
) -> list[Cell]:
    """Run the experiment once without each site.

    Each run is a separate experiment in `out/without-SITE`. A finished run is not repeated, an
    unfinished one is resumed. `out/leave-one-site-out.json` holds the cells and, with at least four
    sites, the AUROC to expect at a new hospital.

    Parameters
    ----------
    experiment_file
        File of the experiment.
    sites
        Name -> folder of each site.
    out
        Folder for the results.
    state
        Folder for the sites' state; None for a folder in each run.

    Returns
    -------
    list[Cell]
        Cells of the global model at the site that was left out.

    Raises
    ------
    Refused
        With fewer than three sites, or if the experiment itself chooses or holds out sites.
    """
    experiment, text = read_experiment(experiment_file)
    if len(sites) < 3:
        raise Refused(
            "leave-one-site-out: without one site at least two must be left; add a --site"
        )
    if experiment.evaluation.held_out or experiment.federation.sites:
        raise Refused("leave-one-site-out: leave out evaluation.held_out and federation.sites")
    cells: list[Cell] = []
    for site in sites:
        folder = out / f"without-{site}"
        summary = run_or_resume(
            _without(site, text, len(sites)), experiment_file, sites, folder, state
        )
        cells += [c for c in summary.cells if (c.model, c.site) == ("global", site)]
    confidence = experiment.evaluation.confidence
    content = {
        "format": 1,
        "experiment": experiment.model_dump(mode="json"),
        "cells": [c.model_dump(mode="json") for c in cells],
        "new_site": {
            outcome: None
            if (n := auroc_at_new_site(cells, outcome, confidence)) is None
            else vars(n)
            for outcome in experiment.outcomes
        },
    }
    write_whole(out / "leave-one-site-out.json", json.dumps(content, indent=1))
    return cells


def auroc_at_new_site(cells: Sequence[Cell], outcome: str, confidence: float) -> NewSite | None:
    """Random-effects mean and prediction interval of the AUROC at a new site.

    A meta-analysis of the logits of the AUROCs at the sites left out. Their variances are computed
    from their intervals.

    Parameters
    ----------
    cells
        Cells of the global model at the sites left out.
    outcome
        Outcome of the cells to use.
    confidence
        Level of the intervals, in (0, 1).

    Returns
    -------
    NewSite | None
        None with fewer than FEWEST_SITES cells that have an AUROC and an interval.
    """
    usable = [c for c in cells if c.outcome == outcome and c.auroc is not None and c.ci is not None]
    if len(usable) < FEWEST_SITES:
        return None
    limits = np.clip(np.array([c.ci for c in usable]), 1e-6, 1 - 1e-6)
    aurocs = np.clip(np.array([c.auroc for c in usable], float), expit(-10), expit(10))
    errors = (logit(limits[:, 1]) - logit(limits[:, 0])) / (2 * z_of(confidence))
    return meta_analysis(logit(aurocs), errors**2, confidence)


def _without(site: str, text: str, sites: int) -> str:
    """The text of the experiment that holds out a site, under another name."""
    document = tomlkit.parse(text)
    document["name"] = f"{document['name']}.without-{site}"
    document.setdefault("evaluation", tomlkit.table())["held_out"] = [site]
    federation = document.setdefault("federation", tomlkit.table())
    federation["quorum"] = min(int(federation.get("quorum", 2)), sites - 1)
    return tomlkit.dumps(document)
