"""What a task's minutes say about it: little in the middle, where issues are, and much where it is tiny or huge.

Minutes are a person's, from a classifier or from the text. In the middle their weight is the forecaster's; beyond it
each factor of e counts in full, because there the estimate's own error, a factor of three, no longer matters.
"""

from math import exp, log

TINY_BELOW = 10.0
HUGE_ABOVE = 240.0
"""Minutes. On the 231 recorded issues the estimate from the text leaves this range with one in thirty."""

EASIER = 1.5
"""Logits by which a task is easier for each factor e below TINY_BELOW: what people's minutes are worth on SWE-bench
Verified (tests/load/forecast_fit.py)."""

HARDER = 0.8
"""Logits by which it is harder for each factor e above HUGE_ABOVE: from the minutes at which models solve a half and
four fifths of tasks, as published with their time horizons (ln 4 logits over a factor of about 5.6)."""

CHEAPER = 0.3
DEARER = 0.5
"""Log of cost for the same factors. Libraries implemented from scratch, some 1,500 minutes of a person, cost five to
twenty times an issue (OpenHands index, 2026-06-30): 0.5 gives three times with nothing else known, and the rest is
what the catalog says of such a kind. Kept low, because most of what is dear is a kind."""

_MOST = 14_400.0
"""Minutes above which a task is no larger: a month of days and nights."""


def beyond(minutes: float | None) -> tuple[float, float]:
    """How far below TINY_BELOW (not above 0) and above HUGE_ABOVE (not below 0), in factors of e."""
    if minutes is None:
        return 0.0, 0.0
    inside = min(max(minutes, 1.0), _MOST)
    return min(log(inside / TINY_BELOW), 0.0), max(log(inside / HUGE_ABOVE), 0.0)


def harder(minutes: float | None) -> float:
    """Logits to add to the difficulty, beside the weight that minutes have in the middle."""
    below, above = beyond(minutes)
    return EASIER * below + HARDER * above


def dearer(minutes: float | None) -> float:
    """By which factor an attempt costs more, and takes longer."""
    below, above = beyond(minutes)
    return exp(CHEAPER * below + DEARER * above)


def within(minutes: float) -> float:
    """Minutes within the middle: what the weight of the middle applies to."""
    return min(max(minutes, TINY_BELOW), HUGE_ABOVE)
