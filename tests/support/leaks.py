"""Finds scores of patients in what a site sent: exactly, and not by chance.

Four bytes match somewhere in ten megabytes of weights by chance: 72 scores in two orders of bytes
have 72 · 2 · 10⁷ / 2³² = 0.3 matches. At the alignment of the weights the chance is smaller and not
small, because weights and scores have the same exponents: each of the 2 · 10⁴ normalisation weights
between 1 and 2 equals a given score of that range with probability 2⁻²³.

So the arrays that are the weights, by their SHA-256 in the ledger, are taken out first. In the
rest, which is some hundred kilobytes, any single score counts, in any order of bytes, at any place:
72 · 2 · 2 · 10⁵ / 2³² = 0.007 for random bytes, and nearly all of it is text. In the weights, runs
of scores count, in any encoding, at any place. A run has so many values that their fractions have
40 bits and more: with 2000 runs, 10⁷ · 2000 / 2⁴⁶ = 3 · 10⁻⁴ for two values of float32, even if all
signs and exponents agreed; they agree for few.
"""

import io
from collections.abc import Collection, Iterator
from hashlib import sha256

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

RUN = {"float64": 1, "float32": 2, "float16": 5, "bfloat16": 7}
"""Encoding -> values of a run that is no chance; fractions of 52, 23, 10 and 7 bits."""
MAGIC = b"\x93NUMPY"


def without_arrays(sent: bytes, hashes: Collection[str]) -> tuple[bytes, bytes]:
    """What was sent without the arrays with these SHA-256; and these arrays, one after another."""
    rest, arrays, start = [], [], 0
    place = sent.find(MAGIC)
    while place >= 0:
        file = io.BytesIO(sent[place : place + 4096])
        npy.read_magic(file)
        shape, _, kind = npy.read_array_header_1_0(file)
        begin = place + file.tell()
        end = begin + int(np.prod(shape)) * kind.itemsize
        if sha256(sent[begin:end]).hexdigest() in hashes:
            rest.append(sent[start:begin])
            arrays.append(sent[begin:end])
            start = end
        place = sent.find(MAGIC, max(end if start == end else 0, place + 1))
    return b"".join([*rest, sent[start:]]), b"".join(arrays)


def scores_in(sent: bytes, scores: NDArray[np.float64], *, single: bool) -> list[str]:
    """What of the scores (n,) is in some bytes: places and encodings, for the message of a test.

    Parameters
    ----------
    sent
        The bytes.
    scores
        (n,) scores, in the order in which they are stored.
    single
        Whether a single score of float32 or its text counts, or only a run.
    """
    found = []
    for name, run, pattern in _patterns(scores, single=single):
        if (place := sent.find(pattern)) >= 0:
            found.append(f"{run} in {name} at byte {place}")
    return found


def _patterns(scores: NDArray[np.float64], *, single: bool) -> Iterator[tuple[str, int, bytes]]:
    orders = [scores, scores[::-1], np.sort(scores), np.sort(scores)[::-1]]
    for kind, run in RUN.items():
        length = 1 if single and kind == "float32" else run
        for ordered in orders if length > 1 else orders[:1]:
            for first in range(len(ordered) - length + 1):
                some = ordered[first : first + length]
                for order in "<>":
                    yield f"{kind} {order}", length, _encoded(some, kind, order)
    if single:
        for score in scores:
            yield "text", 1, repr(float(score)).encode()


def _encoded(scores: NDArray[np.float64], kind: str, order: str) -> bytes:
    if kind == "bfloat16":
        bits = scores.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(f"{order}u2").tobytes()
    return scores.astype(np.dtype(kind).newbyteorder(order)).tobytes()
