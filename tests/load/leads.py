"""By how much the blend is ahead of the better of the two policies that it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

Policy = Literal["classifier", "forecast", "blend"]
POLICIES: tuple[Policy, ...] = ("classifier", "forecast", "blend")
LIMIT = 0.02
"""Of the value: how much worse than the better of the two others the blend may be."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lead:
    """Blend less the better of the two others, as a share of a solved task's value, over seeds; `spread` is half of the
    95 % interval."""

    better: Policy
    mean: float
    spread: float

    @classmethod
    def of(cls, net: Mapping[Policy, Numbers], value_usd: float) -> "Lead":
        """Of each policy's net value per task, seed by seed in the same order."""
        better: Policy = "classifier" if net["classifier"].mean() >= net["forecast"].mean() else "forecast"
        lead = (net["blend"] - net[better]) / value_usd
        return cls(better, float(lead.mean()), half_interval(lead))

    def __str__(self) -> str:
        """`mean (low to high)`, in per cent."""
        return f"{self.mean:+.1%} ({self.mean - self.spread:+.1%} to {self.mean + self.spread:+.1%})"


def half_interval(values: Numbers) -> float:
    """Half of the 95 % interval of the mean by Student's t, whose quantile is that of Abramowitz and Stegun 26.7.5."""
    free = len(values) - 1
    if free < 1:
        return float("nan")
    z = 1.96
    quantile = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return quantile * float(values.std(ddof=1)) / sqrt(len(values))
