"""Noise that is drawn once for a question and kept, from a secret of the site.

A draw is a pseudo-random function of the site's secret, of the question (the weights of the model,
the outcome) and of the exact answer. So the same question about the same patients always gets the
same noise, in whichever round, request or experiment, and cannot be averaged away. The exact answer
is part of it because otherwise two answers before and after a change of the cohort would have the
same noise, and their difference none. The model is part of it because otherwise two models that
differ in the score of one patient only would give the same answer exactly if that patient is not
among those who were asked about.
"""

import hmac
import json
from fractions import Fraction
from hashlib import sha256
from math import isqrt


class KeptNoise:
    """Draws from a secret of the site.

    Parameters
    ----------
    secret
        32 bytes that nobody outside the site knows.
    question
        What the noise is for; equal questions get equal draws.

    References
    ----------
    Canonne, Kamath & Steinke 2020, "The discrete Gaussian for differential privacy", algorithms 1
    to 3. They need integers only, so rounding of floats cannot disclose the exact answer (Mironov
    2012).
    """

    def __init__(self, secret: bytes, *question: str | int | list[int]) -> None:
        if len(secret) < 32:
            raise ValueError("the secret of the noise needs 32 bytes")
        self._key = hmac.digest(secret, json.dumps(question).encode(), sha256)
        self._block = 0
        self._bytes = b""

    def laplace(self, scale: Fraction) -> int:
        """An integer k with P(k) ∝ exp(-|k| / scale)."""
        t, s = scale.numerator, scale.denominator
        while True:
            u = self._below(t)
            if not self._happens_exp(Fraction(u, t)):
                continue
            v = 0
            while self._happens_exp(Fraction(1)):
                v += 1
            size, negative = (u + t * v) // s, bool(self._below(2))
            if size or not negative:  # 0 has one sign
                return -size if negative else size

    def gauss(self, variance: Fraction) -> int:
        """An integer k with P(k) ∝ exp(-k² / (2 · variance))."""
        t = isqrt(variance.numerator // variance.denominator) + 1
        while True:
            k = self.laplace(Fraction(t))
            distance = abs(k) - variance / t
            if self._happens_exp(distance * distance / (2 * variance)):
                return k

    def _below(self, n: int) -> int:
        """A number from 0 to n - 1, all equally likely."""
        size = (n.bit_length() + 7) // 8
        largest = (1 << (8 * size)) // n * n
        while (number := int.from_bytes(self._take(size))) >= largest:
            pass
        return number % n

    def _happens(self, probability: Fraction) -> bool:
        return self._below(probability.denominator) < probability.numerator

    def _happens_exp(self, gamma: Fraction) -> bool:
        """True with probability exp(-gamma), gamma ≥ 0."""
        while gamma > 1:
            if not self._happens_exp(Fraction(1)):
                return False
            gamma -= 1
        k = 1
        while self._happens(gamma / k):
            k += 1
        return k % 2 == 1

    def _take(self, size: int) -> bytes:
        while len(self._bytes) < size:
            self._bytes += hmac.digest(self._key, self._block.to_bytes(8), sha256)
            self._block += 1
        taken, self._bytes = self._bytes[:size], self._bytes[size:]
        return taken
