"""A packed update is exactly what its manifest says, or it is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrad.exchange.update import Manifest, UpdateError, check, pack, unpack

shapes = st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=6)


def packed(shapes_, seed=0):
    rng = np.random.default_rng(seed)
    tensors = {f"t{i}": rng.normal(size=s).astype(np.float32) for i, s in enumerate(shapes_)}
    manifest, flat = pack(tensors, list(tensors), round_=2, stage="probe", base_sha256="b")
    return tensors, manifest, flat


@given(shapes)
def test_unpacking_gives_back_every_tensor(shapes_):
    tensors, manifest, flat = packed(shapes_)
    check(manifest, flat, manifest)
    again = unpack(manifest, flat)
    assert list(again) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor)


def change(manifest: Manifest, **what) -> Manifest:
    return manifest.model_copy(update=what)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"round": 3}, "round is 3, expected 2"),
        ({"stage": "layer4"}, "stage is layer4"),
        ({"base_sha256": "other"}, "base_sha256 is other"),
        ({"names": ["t0", "x"]}, "tensors differ from the stage's: t1, x"),
        ({"shapes": [[3], [2, 2]]}, "shapes differ"),
        ({"sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_a_manifest_that_differs_is_refused(what, words):
    _, manifest, flat = packed([[2, 2], [3]])
    with pytest.raises(UpdateError, match=words):
        check(change(manifest, **what), flat, manifest)


def test_an_array_that_differs_is_refused():
    tensors, manifest, flat = packed([[2, 2], [3]])
    with pytest.raises(UpdateError, match=r"expected float32 \(7,\)"):
        check(manifest, flat[:-1], manifest)
    with pytest.raises(UpdateError, match="float64"):
        check(manifest, flat.astype(np.float64), manifest)
    with pytest.raises(UpdateError, match="SHA-256"):
        check(manifest, flat + 1, manifest)
    tensors["t0"][0, 0] = np.nan
    bad, flat = pack(tensors, list(tensors), round_=2, stage="probe", base_sha256="b")
    with pytest.raises(UpdateError, match="not finite"):
        check(bad, flat, manifest)
