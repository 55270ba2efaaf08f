"""The search for scores in what a site sent finds them, and finds none by chance."""

import io
from hashlib import sha256

import numpy as np
import pytest
from support.leaks import RUN, scores_in, without_arrays

RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(0, 0.05, 250_000).astype(np.float32)
SCORES = RNG.normal(0, 2, 24).astype(np.float32).astype(np.float64)


def sent(weights: np.ndarray, more: bytes = b"") -> tuple[bytes, str]:
    """A message with weights, and the hash in its manifest."""
    file = io.BytesIO()
    np.save(file, weights.view(np.uint8))
    return b'{"kind": "round"}' + file.getvalue() + more + b"end", sha256(weights).hexdigest()


def test_a_megabyte_of_weights_holds_no_score():
    stream, digest = sent(WEIGHTS)
    rest, arrays = without_arrays(stream, {digest})
    assert (len(rest), arrays) == (len(stream) - WEIGHTS.nbytes, WEIGHTS.tobytes())
    assert scores_in(rest, SCORES, single=True) == []
    assert scores_in(arrays, SCORES, single=False) == []


def test_a_score_across_two_weights_is_chance_and_was_called_a_leak():
    score = np.frombuffer(WEIGHTS.tobytes()[4002:4006][::-1], np.float32).astype(np.float64)
    assert scores_in(WEIGHTS.tobytes(), score, single=True) != []
    assert scores_in(WEIGHTS.tobytes(), score, single=False) == []


def test_an_array_that_is_not_the_weights_is_searched_like_all_else():
    stream, digest = sent(WEIGHTS)
    other, _ = sent(SCORES[:1].astype(np.float32))
    rest, _ = without_arrays(stream + other, {digest})
    assert scores_in(rest, SCORES, single=True) != []


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", RUN)
def test_a_run_of_scores_is_found_in_the_weights_at_any_place(kind, order):
    run = SCORES[3 : 3 + RUN[kind]]
    if kind == "bfloat16":
        packed = (run.astype("<f4").view("<u4") + 0x8000 >> 16).astype(f"{order}u2").tobytes()
    else:
        packed = run.astype(np.dtype(kind).newbyteorder(order)).tobytes()
    for place in (4000, 4001):
        planted = WEIGHTS.tobytes()[:place] + packed + WEIGHTS.tobytes()[place:]
        assert scores_in(planted, SCORES, single=False) != []


@pytest.mark.parametrize("packed", [repr(SCORES[5]).encode(), SCORES[5:6].astype(">f4").tobytes()])
def test_a_single_score_beside_the_weights_is_found(packed):
    stream, digest = sent(WEIGHTS, packed)
    rest, _ = without_arrays(stream, {digest})
    assert scores_in(rest, SCORES, single=True) != []
