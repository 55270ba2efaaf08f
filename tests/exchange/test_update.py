"""A packed update that does not match its manifest is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedrad.exchange.encoding import BYTES_PER_VALUE, decode, encode
from fedrad.exchange.experiment import Encoding
from fedrad.exchange.update import (
    Manifest,
    UpdateError,
    check_packed,
    flatten,
    pack,
    unflatten,
    unpack,
)

shapes = st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=6)
encodings = st.sampled_from(list(BYTES_PER_VALUE))
values = arrays(np.float32, st.integers(0, 50), elements=st.floats(-1e4, 1e4, width=32))


def tensors(shapes_, seed=0):
    rng = np.random.default_rng(seed)
    return {f"t{i}": rng.normal(size=s).astype(np.float32) for i, s in enumerate(shapes_)}


def packed(shapes_, seed=0, encoding: Encoding = "float32", reference=None):
    original = tensors(shapes_, seed)
    manifest, flat = pack(
        original,
        list(original),
        round_=2,
        stage="probe",
        base_sha256="b" * 64,
        encoding=encoding,
        reference=reference,
    )
    return original, manifest, flat


# Encodings


@given(values)
def test_float32_is_exact_and_the_16_bit_encodings_are_those_of_torch(x):
    assert decode(*encode(x, "float32")[:1], "float32").tobytes() == x.tobytes()
    for encoding, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        data, scale = encode(x, encoding)
        assert (data.nbytes, scale) == (2 * len(x), 1.0)
        expected = torch.from_numpy(x).to(dtype).float().numpy()
        np.testing.assert_array_equal(decode(data, encoding), expected)


@given(values.filter(len))
def test_int8_is_off_by_at_most_half_a_level(x):
    data, scale = encode(x, "int8")
    assert data.nbytes == len(x)
    error = np.abs(decode(data, "int8", scale).astype(float) - x)
    assert error.max() <= np.abs(x).max() / 127 * 0.51 + 1e-44  # the smallest float32: no level


def test_the_scale_of_int8_is_not_finite_if_a_value_is_not():
    for bad in (np.nan, np.inf, -np.inf):
        assert not np.isfinite(encode(np.array([1, bad], np.float32), "int8")[1])


@pytest.mark.parametrize("encoding", ["float16", "bfloat16"])
def test_values_that_are_not_finite_stay_so(encoding):
    x = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32)
    assert not np.isfinite(decode(encode(x, encoding)[0], encoding)[:3]).any()


def test_error_feedback_makes_up_for_what_the_encoding_loses():
    """Karimireddy et al. 2019: the encoding error is added to the next message, so that the sum of
    the received values differs from the true sum by the error of one message only."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(200, 300)).astype(np.float32) * 10 ** rng.uniform(-3, 0, 300)
    for encoding in ("int8", "bfloat16"):
        lost, plain, fed = np.zeros(300, np.float32), np.zeros(300), np.zeros(300)
        for step in steps.astype(np.float32):
            plain += decode(*_coded(step, encoding))
            arrived = decode(*_coded(step + lost, encoding))
            lost = step + lost - arrived
            fed += arrived
        true = steps.sum(0)
        assert np.abs(fed - true).max() < 0.1 * np.abs(plain - true).max()


def _coded(x, encoding):
    data, scale = encode(x, encoding)
    return data, encoding, scale


# Packing


@given(shapes)
def test_unpacking_gives_back_every_tensor(shapes_):
    original, manifest, flat = packed(shapes_)
    check_packed(manifest, flat, manifest)
    again = unflatten(manifest, unpack(manifest, flat))
    assert list(again) == list(original)
    for name, tensor in original.items():
        np.testing.assert_array_equal(again[name], tensor)


@given(shapes, encodings)
def test_differences_are_taken_to_the_reference_and_added_to_it(shapes_, encoding):
    before = tensors(shapes_, seed=1)
    reference = flatten(before, list(before))
    original, manifest, flat = packed(shapes_, encoding=encoding, reference=reference)
    check_packed(manifest, flat, manifest)
    assert flat.nbytes == manifest.nbytes
    again = unflatten(manifest, unpack(manifest, flat, reference))
    for name, tensor in original.items():
        if tensor.ndim < 2 or encoding == "float32":
            np.testing.assert_array_equal(again[name], tensor)
        else:
            step = np.abs(tensor - before[name]).max()
            relative = {"int8": 0.51 / 127, "bfloat16": 2**-8, "float16": 2**-11}[encoding]
            assert np.abs(again[name] - tensor).max() <= step * relative + 1e-6


def test_differences_without_their_reference_are_refused():
    before = tensors([[2, 2]], seed=1)
    _, manifest, flat = packed([[2, 2]], 0, "int8", flatten(before, list(before)))
    with pytest.raises(UpdateError, match="no reference"):
        unpack(manifest, flat)


def change(manifest: Manifest, **what) -> Manifest:
    return manifest.model_copy(update=what)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"round": 3}, "round is 3, expected 2"),
        ({"stage": "layer4"}, "stage is layer4"),
        ({"base_sha256": "other"}, "base_sha256 is another than the expected"),
        ({"encoding": "int8"}, "encoding is int8, expected float32"),
        ({"reference": "0" * 64}, "reference is another than the expected"),
        ({"scales": [1.0]}, "scales"),
        ({"names": ["t0", "x"]}, "tensors differ from the stage's: lacks t1$"),
        ({"shapes": [[3], [2, 2]]}, "shapes differ"),
        ({"sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_a_manifest_that_differs_is_refused(what, words):
    _, manifest, flat = packed([[2, 2], [3]])
    with pytest.raises(UpdateError, match=words):
        check_packed(change(manifest, **what), flat, manifest)


def test_an_array_that_differs_is_refused():
    original, manifest, flat = packed([[2, 2], [3]])
    with pytest.raises(UpdateError, match=r"expected uint8 \(28,\)"):
        check_packed(manifest, flat[:-1], manifest)
    with pytest.raises(UpdateError, match="float32"):
        check_packed(manifest, flat.view(np.float32), manifest)
    with pytest.raises(UpdateError, match="SHA-256"):
        check_packed(manifest, flat + 1, manifest)
    for bad in (np.nan, np.inf):
        original["t0"][0, 0] = bad
        manifest, flat = pack(
            original, list(original), round_=2, stage="probe", base_sha256="b" * 64
        )
        with pytest.raises(UpdateError, match="not finite"):
            unpack(manifest, flat)
        with pytest.raises(UpdateError, match="not finite"):
            pack(
                original,
                list(original),
                round_=2,
                stage="probe",
                base_sha256="b" * 64,
                encoding="int8",
                reference=np.zeros(7, np.float32),
            )
