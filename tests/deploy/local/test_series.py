"""Each run of a series has its own text; the folder of the experiment file is only read."""

from concurrent.futures import ThreadPoolExecutor

from support.hospital import EXPERIMENT

from fedrad.deploy.local import series
from fedrad.deploy.local.series import run_or_resume


def test_a_run_writes_nothing_beside_the_experiment_file(sites, tmp_path, monkeypatch):
    """The folder does not even exist, so nothing can be written there."""
    monkeypatch.setattr(series, "simulate", lambda simulation: simulation)
    file = tmp_path / "gone" / "experiment.toml"
    simulation = run_or_resume(EXPERIMENT, file, sites, tmp_path / "out", None)
    assert simulation.text == EXPERIMENT
    assert simulation.weights == file.parent
    assert not file.parent.exists()


def test_runs_side_by_side_over_one_experiment_file_keep_their_own_text(
    sites, experiment_file, tmp_path, monkeypatch
):
    """Two series have folders of the same name, as all folds have."""
    monkeypatch.setattr(series, "simulate", lambda simulation: simulation)
    before = sorted(experiment_file.parent.iterdir())
    texts = [f"# {number}\n{EXPERIMENT}" for number in range(8)]
    outs = [tmp_path / "series" / str(number) / "fold-000" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(
            lambda run: run_or_resume(run[0], experiment_file, sites, run[1], None),
            zip(texts, outs, strict=True),
        )
        assert [one.text for one in made] == texts
    assert [p for p in sorted(experiment_file.parent.iterdir()) if p.name != "series"] == before
