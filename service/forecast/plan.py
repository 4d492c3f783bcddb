"""In which order to try candidates, each one only after the earlier attempts were rejected.

A candidate that is not worth its cost now is not worth it after a rejection either (a rejection makes the task harder),
so the first step of a plan that is worth anything is itself worth its cost; with several kinds of work nearly so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from service.forecast.difficulty import Array
from service.forecast.members import Members
from service.forecast.options import Options
from service.forecast.prospects import COARSE, ROUNDING, Prospects, prospects_of
from service.forecast.screen import screen
from service.forecast.search import search
from service.forecast.stakes import Stakes

MAX_STEPS = 8
"""Attempts in one plan, at most."""

EXACT = 12
"""Up to so many candidates nothing is set aside before the search."""

_WORK = 160_000
"""States times grid points that a search may take: some 0.5 ms. Beyond, it looks at every second or third point of
the grid only, 1 or 1.5 logits apart. The plan that is found is then computed with all points."""

_COARSEST = 3

_ROUNDED = 1e6
"""The coarse grid of several kinds is searched with numbers of four bytes, in a third less time; plans are then equal
within so many times as much. Of 600 plans at random none lost more than 3e-5 of its worth by that, 1e-7 on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """The plan by numbers: `order` indexes the candidates. Chances, costs and minutes of a step are given that all
    before were rejected.

    `total_p_solve` is the chance that right work is accepted, `total_p_wrong` that wrong work is.
    """

    order: tuple[int, ...]
    p_solve: tuple[float, ...]
    cost_usd: tuple[float, ...]
    list_cost_usd: tuple[float, ...]
    minutes: tuple[float, ...] | None
    total_p_solve: float
    total_p_wrong: float
    total_cost_usd: float
    total_minutes: float | None
    worth_usd: float
    worthwhile: bool


def best_path(
    prior: Array,
    options: Options,
    stakes: Stakes,
    *,
    first: int | None = None,
    max_steps: int = MAX_STEPS,
    exact: int = EXACT,
) -> Path:
    """The ordered choice of at most `max_steps` (1 to 8) attempts that is worth most by `stakes`.

    `prior` is the distribution over the grid after what was rejected so far. `first` fixes step one, whatever it costs.
    There is always one step; there are more only where that is worth more than it costs, and none is expected to cost
    more than the limit when it would be made. Exact for up to `exact` candidates; beyond, see `screen`. Of equal plans,
    the one with more in hand after its first step, then the one whose steps come earlier in the list.
    """
    prospects = prospects_of(options, stakes)
    alone: Array = prospects.worth @ prior
    if stakes.max_cost_usd is not None:
        within = options.cost @ prior <= stakes.max_cost_usd * (1 + ROUNDING)
        alone = np.where(within, alone, -np.inf) if within.any() else alone
    if first is None:
        order = _Search(prior, prospects).best(None, max_steps, exact)
        order = order or [int(np.argmax(alone >= alone.max() - prospects.tie))]
    else:
        order = [first, *_Search(prior * prospects.rejection[first], prospects).best(first, max_steps - 1, exact)]
    return _walk(prior, options, stakes, order, worthwhile=bool(alone.max() >= 0))


@dataclass(frozen=True, slots=True)
class _Search:
    """The search for the steps after `prior`, a distribution that need not sum to one."""

    prior: Array
    prospects: Prospects

    def best(self, first: int | None, steps: int, exact: int) -> list[int]:
        """The candidates that follow `first`, at most `steps`; empty where not even one is worth its cost."""
        if steps < 1:
            return []
        tries = self.prospects.options.tries
        kept = [c for c in self._promising() if tries[c] > (c == first)]
        if len(kept) > exact:
            kept = self._screened(kept, steps, exact)
        if not kept:
            return []
        attempts = sum(tries[c] - (c == first) for c in kept)
        steps = min(steps, attempts)
        stride = _stride(attempts, steps, len(self.prior))
        found = self._search(tuple(kept), first, steps, stride)
        return (self._search(tuple(kept), first, steps, 1) if found is None else found) or []

    def _promising(self) -> list[int]:
        """The candidates that are worth their cost, and within the limit, in some kind of work.

        A rejection makes the task harder in each kind, so that the others never will be.
        """
        options, limit = self.prospects.options, self.prospects.stakes.max_cost_usd
        promising = self.prospects.by_kind(self.prior) > 0
        if limit is not None:
            prior = options.by_kind(self.prior)
            cost = np.einsum("ckg,kg->ck", options.by_kind(options.cost), prior)
            promising &= cost <= limit * (1 + COARSE) * prior.sum(axis=-1)
        return np.flatnonzero(promising.any(axis=1)).tolist()

    def _screened(self, kept: list[int], steps: int, exact: int) -> list[int]:
        of = self.prospects
        found = screen(self.prior, of.rejection[kept], of.worth[kept], of.expense[kept], steps=steps, limit=exact)
        return [kept[i] for i in found]

    def _search(self, kept: tuple[int, ...], first: int | None, steps: int, stride: int) -> list[int] | None:
        """None where a step of what a coarse grid found is too dear."""
        members, curves = self.prospects.curves(kept, first, stride)
        prior = self.prospects.options.thinned_prior(self.prior, stride)
        tie = self.prospects.tie * (1 if curves.worth.dtype == self.prior.dtype else _ROUNDED)
        found = search((prior / prior.sum()).astype(curves.worth.dtype), curves, steps, tie)
        if stride > 1 and self._too_dear(members, found):
            return None
        return [members.of[m] for m in found]

    def _too_dear(self, members: Members, order: Sequence[int]) -> bool:
        """Whether a step exceeds the limit by more than rounding."""
        options, stakes, reach, before = self.prospects.options, self.prospects.stakes, self.prior, list[int]()
        if stakes.max_cost_usd is None:
            return False
        for m in order:
            cost = float(reach @ options.cost[members.of[m]])
            if cost > stakes.max_cost_usd * (1 + ROUNDING) * float(reach.sum()):
                return True
            reach = reach * stakes.rejection(members.chance[members.row(m, before)])
            before.append(m)
        return False


def _stride(members: int, steps: int, points: int) -> int:
    """Which points of the grid a search looks at: every one, every second or every third."""
    states = sum(comb(members, size) for size in range(steps))
    return min(max(1, -(-states * points // _WORK)), _COARSEST)


def _walk(prior: Array, options: Options, stakes: Stakes, order: Sequence[int], *, worthwhile: bool) -> Path:
    """The figures of the plan, by all points of the grid."""
    check = stakes.verifier
    p_solve: list[float] = []
    cost_usd: list[float] = []
    list_cost_usd: list[float] = []
    minutes: list[float] = []
    solved, wrong, spent, taken = 0.0, 0.0, 0.0, 0.0
    reached, now = 1.0, prior
    for step, c in enumerate(order):
        chance = options.chance_after(order[:step], c, check)
        p_solve.append(float(now @ chance))
        cost_usd.append(float(now @ options.cost[c]))
        list_cost_usd.append(cost_usd[-1] if options.list_cost is options.cost else float(now @ options.list_cost[c]))
        spent += reached * cost_usd[-1]
        if options.minutes is not None:
            minutes.append(float(now @ options.minutes[c]))
            taken += reached * minutes[-1]
        solved += reached * p_solve[-1] * (1 - check.false_reject)
        wrong += reached * (1 - p_solve[-1]) * check.false_accept
        reached *= 1 - check.false_accept - check.tells * p_solve[-1]
        rejected = now * stakes.rejection(chance)
        now = rejected / rejected.sum()
    p_solved = 1 - reached if check.perfect else solved
    worth = stakes.value_usd * p_solved - check.harm_usd * wrong - spent - stakes.delay_usd_per_hour / 60 * taken
    return Path(
        order=tuple(order),
        p_solve=tuple(p_solve),
        cost_usd=tuple(cost_usd),
        list_cost_usd=tuple(list_cost_usd),
        minutes=None if options.minutes is None else tuple(minutes),
        total_p_solve=p_solved,
        total_p_wrong=wrong,
        total_cost_usd=spent,
        total_minutes=None if options.minutes is None else taken,
        worth_usd=worth,
        worthwhile=worthwhile,
    )
