"""Shares of probability over the options of one question: read from a reply that may be broken, and what they mean."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from service.base.text import one_line
from service.classifiers.verdict import VerdictError

MAX_TOTAL = 1.05
"""What a server gives may be rounded; above this it is percentages, weights or nonsense."""

LEAST_KNOWN = 0.5
"""Where the options that were asked about have less than this together, the reply speaks of something else."""


def shares_of(given: Mapping[str, Any], options: Sequence[str]) -> tuple[float, ...]:
    """The share of each option, in their order, summing to one; an option that is missing has none.

    Raises VerdictError (`bad-probabilities`, `unknown-candidate`) where they are no probabilities, or of other options.
    """
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= MAX_TOTAL:
            shown = one_line(f"{key[:100]}: {str(value)[:100]}", 200)
            raise VerdictError("bad-probabilities", f"not a probability for {shown}")
    total = sum(given.values())
    if total > MAX_TOTAL:
        raise VerdictError("bad-probabilities", f"the probabilities sum to {total:.3g}")
    known = [float(given.get(option, 0.0)) for option in options]
    if not sum(known) >= LEAST_KNOWN:
        raise VerdictError("unknown-candidate", f"the options asked about have {sum(known):.2f} of the probability")
    return normalised(known)


def normalised(weights: Sequence[float]) -> tuple[float, ...]:
    """The same shares, summing to one; equal ones where there is nothing to go by."""
    total = sum(weights)
    if not total > 0:
        return (1.0 / len(weights),) * len(weights)
    return tuple([weight / total for weight in weights])


def concentration(shares: Sequence[float]) -> float:
    """(n·p_max − 1)/(n − 1): 0 where all are equal, 1 where one has it all. It is no promise of being right."""
    count = len(shares)
    return 1.0 if count < 2 else min(1.0, max(0.0, (count * max(shares) - 1.0) / (count - 1.0)))


def geometric_mean(shares: Sequence[float], values: Sequence[float]) -> float:
    """exp of the mean of the logs of `values`, all above 0."""
    return math.exp(sum(share * math.log(value) for share, value in zip(shares, values, strict=True)))
