"""How likely the windows of a quota pool are to be used up before they begin anew, and so what an attempt takes.

An attempt under a plan costs no money, but what it uses of a window is not there for a later one. That later one is
turned away, to an attempt for money or to the next window, only where the window is used up before its reset. So the
attempt's cost is its list price times the chance of that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.contract.quota import Window

USUAL_PACE = 0.4
"""Share of a window that is used from one reset to the next, before anything is seen of it. Of the distributions with
that mean it is the exponential one, which presumes least."""

BURST_MINUTES = 300.0
"""Use comes in bursts, and a pace tells little of what follows: a window of up to five hours may be used in one go. A
longer one holds more and longer bursts, each (300 / minutes) ** 0.8 of it: a week some 17, of ten hours each, a working
day. Chosen on simulated weeks (tests/load/quota_week.py) for what it is worth and for how little it leaves unused in
the worst window; neighbouring figures are worth as much."""

_GROWTH = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is to be expected of one window: `remaining` of its length (0 to 1), its `pace` so far with what is usual
    (windows used per length of a window), and the `chance` that what is left is used up before the reset."""

    window: Window
    left: float
    remaining: float
    pace: float
    chance: float


def read(window: Window, *, reserve: float, now: datetime) -> Reading | None:
    """What is to be expected of a window at a moment; None where it has begun anew since it was told of.

    A reset that is further away than the window is long (the clocks differ) counts as just that far. With what is
    usual as a prior the pace is a gamma distribution, and the use until the reset a sum of bursts at that pace; its
    mean and variance are matched by a log-normal distribution.
    """
    seconds = (window.resets_at - now).total_seconds()
    if seconds <= 0:
        return None
    remaining = min(1.0, seconds / 60 / window.minutes)
    seen = 1.0 - remaining
    left = max(0.0, 1.0 - reserve - window.used)
    burst = min(1.0, BURST_MINUTES / window.minutes) ** _GROWTH
    known = burst / USUAL_PACE + seen  # an exponential prior is worth one burst
    pace = (burst + window.used) / known
    expected = pace * remaining
    variance = expected * burst * (1 + remaining / known)
    chance = 1.0 if left <= 0 else _exceeds(left, expected, variance)
    return Reading(window=window, left=left, remaining=remaining, pace=pace, chance=chance)


def tightest(windows: Sequence[Window], *, reserve: float, now: datetime) -> Reading | None:
    """The window that is likeliest to be used up, of those that last the longest; None where nothing is known."""
    readings = [reading for window in windows if (reading := read(window, reserve=reserve, now=now)) is not None]
    return max(readings, key=lambda reading: (reading.chance, reading.window.resets_at), default=None)


def used_up_until(windows: Sequence[Window], *, reserve: float, now: datetime) -> datetime | None:
    """When a pool whose windows are used up to their reserve can be drawn on again; None where it can be now."""
    readings = [read(window, reserve=reserve, now=now) for window in windows]
    return max((one.window.resets_at for one in readings if one is not None and one.left <= 0), default=None)


def _exceeds(limit: float, mean: float, variance: float) -> float:
    """P(X > limit) for a log-normal X with this mean and variance."""
    if mean <= 0:
        return 0.0
    spread = math.log1p(variance / mean**2)
    return 0.5 * math.erfc((math.log(limit / mean) + spread / 2) / math.sqrt(2 * spread))
