"""To how many digits a figure of scores is released: as many as its standard error justifies."""

from math import floor, isfinite, log10, sqrt

FINEST = 0.001
"""No figure of scores is released more finely than this."""


def step_of(variance: float | None) -> float:
    """The step to which a figure with this variance is rounded: the largest power of ten that is at
    most half of its standard error, but never below 0.001 or above 0.1.

    Rounding to a step s adds an error of variance s²/12. With s ≤ SE/2 this is at most 2 % of the
    figure's own variance, so that no interval changes visibly.
    """
    half = sqrt(variance) / 2 if variance is not None else 0.0
    if half <= FINEST:
        return FINEST
    return float(10.0 ** min(-1, floor(log10(half) + 1e-9)))


def to_step(value: float, step: float) -> float:
    """The multiple of a step, a decimal fraction such as 0.02, that is nearest to a value."""
    digits = max(0, -floor(log10(step) + 1e-9))
    return round(round(value / step) * step, digits)


def significant(value: float, digits: int) -> float:
    """A value rounded to a number of significant digits."""
    if not value or not isfinite(value):
        return value
    return round(value, digits - 1 - floor(log10(abs(value))))
