"""The luck that attempts of one model share on one task: what a failure of a model says of its next attempt.

Given the difficulty, attempts of different models are independent. Attempts of the same model are not: what it cannot
do it mostly cannot do the second time either. So with chance SAME_PAIR all attempts of one candidate on a task stand or
fall together, by the same draw; with chance SAME_MODEL (out of that) the draw is shared by all efforts of the model, so
that the stronger effort solves whatever the weaker one does; else each attempt has luck of its own. The chance of a
first attempt is what it is without all this.

SAME_PAIR is fitted to five runs each of 80 Terminal-Bench tasks: after one failure the same model solves 11 % and
another of its strength 20 %, and after two failures of the same 6 %. With difficulty as in difficulty.py this gives
10.6, 20.0 and 6.5 % (tests/unit/test_luck.py); a better model, at 35 %, has no luck to share.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from service.contract.verifier import Verifier
from service.forecast.difficulty import Array

SAME_PAIR = 0.47
"""Chance that another attempt of the same candidate at the same task ends as the first did."""

SAME_MODEL = 0.2
"""Chance that this holds for other efforts of the same model too. No recorded runs tell it: less than half of
SAME_PAIR, so that a failure at one effort tells more of another than of a stranger, and less than of itself."""


class Tried(NamedTuple):
    """An attempt: any numbers for its model and its candidate, and its chance of solving the task at each grid point,
    did nothing tell of its luck."""

    model: int
    pair: int
    chance: Array


class Kinship(NamedTuple):
    """Whose luck is shared: the numbers of each candidate's model and of the candidate itself, and the attempts that
    were rejected before, which are numbered alike."""

    model: tuple[int, ...]
    pair: tuple[int, ...]
    rejected: tuple[Tried, ...] = ()


def rejection(tried: Sequence[Tried], verifier: Verifier) -> Array:
    """The chance that all these attempts of one model are rejected, at each grid point; at least one attempt."""
    shares = (1 - SAME_PAIR) * _apart(tried, verifier)
    shares += (SAME_PAIR - SAME_MODEL) * _by_pair(tried, verifier)
    shares += SAME_MODEL * _together(tried, verifier, None)
    return shares


def chance_after(tried: Sequence[Tried], one: Tried, verifier: Verifier) -> Array:
    """The chance that `one` solves the task, given that these attempts of its model were rejected."""
    if not tried:
        return one.chance
    mine = sum(other.pair == one.pair for other in tried)
    solved = (1 - SAME_PAIR) * _apart(tried, verifier) * one.chance
    others = [other for other in tried if other.pair != one.pair]
    solved += (SAME_PAIR - SAME_MODEL) * _by_pair(others, verifier) * one.chance * verifier.false_reject**mine
    solved += SAME_MODEL * _together(tried, verifier, one.chance)
    return np.clip(solved / np.maximum(rejection(tried, verifier), 1e-300), 0.0, 1.0)


def _apart(tried: Sequence[Tried], verifier: Verifier) -> Array:
    product = np.ones_like(tried[0].chance)
    for one in tried:
        product = product * ((1 - verifier.false_accept) - verifier.tells * one.chance)
    return product


def _by_pair(tried: Sequence[Tried], verifier: Verifier) -> Array | float:
    product: Array | float = 1.0
    chances = {one.pair: one.chance for one in tried}
    for pair, times in Counter(one.pair for one in tried).items():
        right, wrong = verifier.false_reject**times, (1 - verifier.false_accept) ** times
        product = product * (wrong + (right - wrong) * chances[pair])
    return product


def _together(tried: Sequence[Tried], verifier: Verifier, within: Array | None) -> Array:
    """All by one draw u: an attempt solves the task where u is below its chance. `within` counts only u below that."""
    marks = np.sort(np.array([one.chance for one in tried]), axis=0)
    edges = np.concatenate([np.zeros_like(marks[:1]), marks, np.ones_like(marks[:1])])
    if within is not None:
        edges = np.minimum(edges, within)
    n = len(tried)
    all_rejected = [
        verifier.false_reject ** (n - wrong) * (1 - verifier.false_accept) ** wrong for wrong in range(n + 1)
    ]
    total: Array = np.array(all_rejected) @ np.diff(edges, axis=0)
    return total
