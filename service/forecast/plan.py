"""In which order to try candidates, each one only after the earlier ones failed: an exact dynamic programme.

What is left of a task after failures depends on which candidates failed and not on their order, so a state is the set
of those that failed, weighted by how likely it is to be reached. With W(S, d) the probability of difficulty d and of
every candidate in S failing, trying c next is worth Σ_d W(S, d) · (value · P_c(d) − cost_c(d)), and

    V(S) = max(0, max over c not in S of that worth + V(S ∪ {c})).

A candidate that is not worth its cost now is not worth it after a failure either (a failure makes the task harder), so
the first step of a plan that is worth anything is itself worth its cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, combinations
from math import comb

import numpy as np
import numpy.typing as npt

from service.forecast.difficulty import Array

MAX_STEPS = 5
"""Attempts in one plan, at most."""

EXACT = 14
"""Up to so many candidates nothing is set aside before the dynamic programme."""

_TIE = 1e-12
"""Plans whose worth differs by less than this share of the money at stake are equal."""

_EVERY = 2
"""The search looks at every other grid point, one logit apart: chances differ by less than 1e-5 from the full grid's,
with which the plan that is found is then computed."""

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """The plan by numbers: `order` indexes the candidates; chances and costs are given that all before failed."""

    order: tuple[int, ...]
    p_solve: tuple[float, ...]
    cost_usd: tuple[float, ...]
    total_p_solve: float
    total_cost_usd: float
    worthwhile: bool


@dataclass(frozen=True, slots=True)
class _Level:
    """All sets of k candidates, ordered by their largest member, then by the next (colexicographic).

    So the sets that have c as their largest member are the first so many sets of k − 1, each with c added: `blocks`
    says (c, where they begin, how many). `child` numbers each set with one more member (own members: −1, `blocked`).
    """

    blocks: tuple[tuple[int, int, int], ...]
    child: Index
    blocked: npt.NDArray[np.bool_]


def best_path(
    prior: Array,
    chance: Array,
    cost: Array,
    value_usd: float,
    *,
    first: int | None = None,
    max_steps: int = MAX_STEPS,
    exact: int = EXACT,
) -> Path:
    """The ordered choice of at most `max_steps` (1 to 5) candidates that maximises value × P(solved) − expected cost.

    `prior` is the distribution over the grid, `chance` and `cost` (US dollars) are candidates × grid: Rasch curves, and
    multiples of one curve, so that who is better or dearer at one difficulty is so at each. `first` fixes step one.
    There is always one step; there are more only where each is worth more than it costs. Exact for up to `exact`
    candidates beside `first`; beyond, see `_screen`. Of equal plans, the one with
    more in hand after its first step, then the one whose steps come earlier in the list.
    """
    worth: Array = value_usd * chance - cost
    tie = _TIE * (value_usd + float(cost.max()))
    alone: Array = worth @ prior
    worthwhile = bool(alone.max() >= 0)
    order: list[int] = []
    left = prior
    if first is not None:
        order = [first]
        left = prior * (1 - chance[first])
    kept = np.flatnonzero(np.arange(len(chance)) != (-1 if first is None else first))
    worth = worth[kept]
    steps = max_steps - len(order)
    if len(kept) > exact:
        screened = _screen(left, 1 - chance[kept], cost[kept], worth, steps, exact)
        kept, worth = kept[screened], worth[screened]
    if steps > 0 and len(kept) > 0:
        coarse = left[::_EVERY] / left[::_EVERY].sum()
        found = _search(coarse, (1 - chance[kept])[:, ::_EVERY], worth[:, ::_EVERY], min(steps, len(kept)), tie)
        order += [int(kept[c]) for c in found]
    if not order:
        order = [int(np.argmax(alone >= alone.max() - tie))]
    return _walk(prior, chance, cost, order, worthwhile=worthwhile)


def _walk(prior: Array, chance: Array, cost: Array, order: Sequence[int], *, worthwhile: bool) -> Path:
    p_solve: list[float] = []
    cost_usd: list[float] = []
    reached, spent, now = 1.0, 0.0, prior
    for c in order:
        p_solve.append(float(now @ chance[c]))
        cost_usd.append(float(now @ cost[c]))
        spent += reached * cost_usd[-1]
        reached *= 1 - p_solve[-1]
        failed = now * (1 - chance[c])
        now = failed / failed.sum()
    return Path(
        order=tuple(order),
        p_solve=tuple(p_solve),
        cost_usd=tuple(cost_usd),
        total_p_solve=1 - reached,
        total_cost_usd=spent,
        worthwhile=worthwhile,
    )


def _search(prior: Array, fail: Array, worth: Array, steps: int, tie: float) -> list[int]:
    """The dynamic programme; an empty list where not even one step is worth its cost."""
    n = len(fail)
    levels = _levels(n, steps)
    reach = prior[None, :]
    gains: list[Array] = [reach @ worth.T]
    for level in levels[1:]:
        further = np.empty((len(level.child), len(prior)))
        for c, begin, count in level.blocks:
            np.multiply(reach[:count], fail[c], out=further[begin : begin + count])
        reach = further
        gains.append(reach @ worth.T)
    best: list[Array] = []
    then: Array | None = None
    for level, gain in zip(reversed(levels), reversed(gains), strict=True):
        total = gain.copy() if then is None else gain + then[level.child]
        total[level.blocked] = -np.inf
        best.append(total)
        then = np.maximum(total.max(axis=1), 0.0)
    order: list[int] = []
    state = 0
    for level, gain, total in zip(levels, gains, reversed(best), strict=True):
        row = total[state]
        top = row.max()
        if top <= tie:
            break
        soon = np.where(row >= top - tie, gain[state], -np.inf)
        order.append(int(np.argmax(soon >= soon.max() - tie)))
        state = int(level.child[state, order[-1]])
    return order


@lru_cache(maxsize=128)
def _levels(n: int, steps: int) -> tuple[_Level, ...]:
    """The index tables for sets of 0 to `steps` − 1 out of `n`; at most EXACT × MAX_STEPS tables are ever made."""
    sets = [sorted(combinations(range(n), size), key=lambda members: members[::-1]) for size in range(steps + 1)]
    levels: list[_Level] = []
    for size in range(steps):
        number = {members: i for i, members in enumerate(sets[size + 1])}
        child = np.full((len(sets[size]), n), -1, dtype=np.intp)
        for row, members in enumerate(sets[size]):
            for c in range(n):
                if c not in members:
                    child[row, c] = number[tuple(sorted((*members, c)))]
        counts = [(c, comb(c, size - 1)) for c in range(size - 1, n)] if size else []
        begins = accumulate((count for _, count in counts), initial=0)
        blocks = tuple((c, begin, count) for (c, count), begin in zip(counts, begins, strict=False))
        levels.append(_Level(blocks, child, child < 0))
    return tuple(levels)


def _screen(prior: Array, fail: Array, cost: Array, worth: Array, steps: int, limit: int) -> Index:
    """Which `limit` candidates, at most, the dynamic programme looks at.

    Two rules lose nothing: a candidate that is not worth its cost now never will be, and one to which `steps` others
    are at least equal in chances and in cost can always be replaced by one of them. If more are left, those stay that
    take part in the best plans of two steps; what that loses is measured by tests/load/bench_forecast.py.
    """
    alone: Array = worth @ prior
    miss, price = fail[:, fail.shape[1] // 2], cost[:, 0]
    equal_or_better = (miss[:, None] >= miss) & (price[:, None] >= price)
    twins = equal_or_better & equal_or_better.T
    better = equal_or_better & ~(twins & np.triu(np.ones_like(twins)))
    kept = np.flatnonzero((alone > 0) & (better.sum(axis=1) < steps))
    if len(kept) <= limit:
        return kept
    reach = fail[kept] * prior
    pairs: Array = reach @ worth[kept].T
    np.fill_diagonal(pairs, 0.0)
    pairs = np.maximum(pairs, 0.0) + alone[kept][:, None]
    through = np.maximum(pairs.max(axis=0), pairs.max(axis=1))
    return np.sort(kept[np.argsort(-through, kind="stable")[:limit]])
