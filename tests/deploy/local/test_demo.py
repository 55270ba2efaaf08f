"""The demonstration, as a new user runs it (slow)."""

import os
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.deploy.local.demo import PATIENTS
from fedrad.exchange.experiment import read_experiment
from fedrad.server.results.summary import read_summary

FEDRAD = Path(sysconfig.get_path("scripts")) / "fedrad"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished demonstration and what it printed."""
    out = tmp_path_factory.mktemp("demo")
    run = subprocess.run(
        [FEDRAD, "demo", "--out", out], capture_output=True, text=True, check=True, timeout=900
    )
    return out, run


def test_it_ends_with_a_table_and_the_reports_path(demo):
    out, run = demo
    for word in ("within-site", "pooled", "site-only", "base", "local-only", "global"):
        assert word in run.stdout
    assert str(out / "results" / "report.html") in run.stdout.replace("\n", "")
    assert "phantom weights" in (out / "results" / "report.html").read_text()


def test_no_identity_is_on_the_coordinators_side(demo):
    out, _ = demo
    for file in (out / "results").rglob("*"):
        if file.is_file() and "sites" not in file.relative_to(out / "results").parts:
            assert b"CANARY" not in file.read_bytes(), file
            assert os.fsencode(out) not in file.read_bytes(), file


def test_thumbnails_do_not_solve_the_phantoms(demo):
    out, _ = demo
    experiment, _ = read_experiment(out / "experiment.toml")
    os.environ["FEDRAD_WEIGHTS"] = str(out)
    parts = [
        SiteData(open_site(out / n, name=n, state=out / "results" / "sites" / n), experiment).parts
        for n in PATIENTS
    ]

    def thumbnails(part):
        images = [p[part].images[:].astype(float) for p in parts]
        return [i.reshape(len(i), 32, 3, 32, 3).mean((2, 4)).reshape(len(i), -1) for i in images]

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))
    labels = np.concatenate([p["train"].labels[:, 0] for p in parts])
    model.fit(np.concatenate(thumbnails("train")), labels)
    own = [
        roc_auc_score(p["test"].labels[:, 0], model.decision_function(t))
        for p, t in zip(parts, thumbnails("test"), strict=True)
    ]
    pairs = [(p["test"].labels == 1).sum() * (p["test"].labels == 0).sum() for p in parts]
    simple = np.average(own, weights=pairs)
    network = next(o.within for o in read_summary(out / "results").overall if o.model == "global")
    print(f"within-site AUROC: thumbnails {simple:.3f}, network {network:.3f}")
    assert simple < network - 0.1
