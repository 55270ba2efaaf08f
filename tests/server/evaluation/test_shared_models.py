"""A shared local-only model is its manifest and its values together, or it is not there."""

import numpy as np
import pytest

from fedrad.exchange.update import Manifest
from fedrad.server.evaluation import shared_models
from fedrad.server.evaluation.shared_models import SharedModels
from fedrad.system.files import UnreadableFileError


def manifest(round_: int) -> Manifest:
    return Manifest(
        round=round_,
        stage="all",
        names=["head"],
        shapes=[[1]],
        base_sha256="0" * 64,
        sha256="1" * 64,
    )


def test_a_model_is_read_as_it_was_written_and_replaced_as_a_whole(tmp_path):
    models = SharedModels(tmp_path / "travellers")
    assert models.load("a") is None
    for round_ in (1, 2):
        packed = np.full(4, round_, np.uint8)
        models.save("a", manifest(round_), packed)
        described, values = models.load("a")
        assert described == manifest(round_)
        assert values.tolist() == packed.tolist()


@pytest.mark.parametrize("torn", ["values", "manifest"])
def test_a_crash_leaves_no_manifest_beside_the_values_of_another_model(tmp_path, monkeypatch, torn):
    models = SharedModels(tmp_path)
    models.save("a", manifest(1), np.ones(4, np.uint8))

    def crash(*_):
        raise KeyboardInterrupt

    if torn == "values":
        monkeypatch.setattr(shared_models.np, "save", crash)
    else:
        monkeypatch.setattr(shared_models.JsonFile, "write", crash)
    with pytest.raises(KeyboardInterrupt):
        models.save("a", manifest(2), np.zeros(4, np.uint8))
    assert models.load("a") is None


def test_a_damaged_manifest_is_named(tmp_path):
    models = SharedModels(tmp_path)
    models.save("a", manifest(1), np.ones(4, np.uint8))
    (tmp_path / "a.json").write_text('{"format": 2}')
    with pytest.raises(UnreadableFileError, match=r"a\.json: cannot be read \(round: missing\)"):
        models.load("a")
