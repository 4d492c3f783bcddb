"""Intervals of shares."""

from math import sqrt

Z95 = 1.959964
"""Of the normal distribution, for an interval of 95 %."""


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Interval of 95 % for a share of `n`, above 0 (Wilson 1927); it holds near 0 and 1 and for few too."""
    share, z = hits / n, Z95
    middle = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
