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
from service.forecast.screen import screen
from service.forecast.search import Curves, search
from service.forecast.stakes import Stakes

MAX_STEPS = 8
"""Attempts in one plan, at most."""

EXACT = 12
"""Up to so many candidates nothing is set aside before the search."""

_TIE = 1e-12
"""Plans whose worth differs by less than this share of the money at stake are equal."""

_WORK = 160_000
"""States times grid points that a search may take: some 0.5 ms. Beyond, it looks at every second or third point of
the grid only, 1 or 1.5 logits apart. The plan that is found is then computed with all points."""

_COARSEST = 3

_ROUNDED = 1e6
"""The coarse grid of several kinds is searched with numbers of four bytes, in a third less time; plans are then equal
within so many times as much. Of 600 plans at random none lost more than 3e-5 of its worth by that, 1e-7 on average."""

ROUNDING = 1e-9
"""A cost keeps a limit that it exceeds by this share: the last bits of a sum are no breach."""

_COARSE = 5e-3
"""The same for a coarse grid, whose costs may be wrong by as much. A plan that exceeds the limit by the fine grid is
searched for anew on that; one that does not is the best of more than the limit allows."""


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
    expense = stakes.expense(options.cost, options.minutes)
    now = options.chance_now(stakes.verifier)
    worth: Array = stakes.gain_usd * now - expense
    alone: Array = worth @ prior
    if stakes.max_cost_usd is not None:
        within = options.cost @ prior <= stakes.max_cost_usd * (1 + ROUNDING)
        alone = np.where(within, alone, -np.inf) if within.any() else alone
    tie = _TIE * (stakes.gain_usd + float(expense.max()))
    if first is None:
        order = _Search(prior, options, stakes, worth, expense, tie).best(None, max_steps, exact)
        order = order or [int(np.argmax(alone >= alone.max() - tie))]
    else:
        left = prior * stakes.rejection(now[first])
        order = [first, *_Search(left, options, stakes, worth, expense, tie).best(first, max_steps - 1, exact)]
    return _walk(prior, options, stakes, order, worthwhile=bool(alone.max() >= 0))


@dataclass(frozen=True, slots=True)
class _Search:
    """The search for the steps after `prior`, a distribution that need not sum to one."""

    prior: Array
    options: Options
    stakes: Stakes
    worth: Array
    expense: Array
    tie: float

    def best(self, first: int | None, steps: int, exact: int) -> list[int]:
        """The candidates that follow `first`, at most `steps`; empty where not even one is worth its cost."""
        if steps < 1:
            return []
        kept = [c for c in self._promising() if self.options.tries[c] > (c == first)]
        if len(kept) > exact:
            kept = self._screened(kept, steps, exact)
        if not kept:
            return []
        members = self.options.members(tuple(kept), first, self.stakes.verifier)
        steps = min(steps, len(members.of))
        stride = _stride(len(members.of), steps, len(self.prior))
        found = self._search(members, steps, stride)
        if stride > 1 and self._too_dear(members, found):
            found = self._search(members, steps, 1)
        return [members.of[m] for m in found]

    def _promising(self) -> list[int]:
        """The candidates that are worth their cost, and within the limit, in some kind of work.

        A rejection makes the task harder in each kind, so that the others never will be.
        """
        options, limit = self.options, self.stakes.max_cost_usd
        prior = options.by_kind(self.prior)
        promising = np.einsum("ckg,kg->ck", options.by_kind(self.worth), prior) > 0
        if limit is not None:
            cost = np.einsum("ckg,kg->ck", options.by_kind(options.cost), prior)
            promising &= cost <= limit * (1 + _COARSE) * prior.sum(axis=-1)
        return np.flatnonzero(promising.any(axis=1)).tolist()

    def _screened(self, kept: list[int], steps: int, exact: int) -> list[int]:
        rejection = self.stakes.rejection(self.options.chance_now(self.stakes.verifier)[kept])
        found = screen(self.prior, rejection, self.worth[kept], self.expense[kept], steps=steps, limit=exact)
        return [kept[i] for i in found]

    def _search(self, members: Members, steps: int, stride: int) -> list[int]:
        of, rows = list(members.of), [members.of[m] for m in members.row_of]
        thinned = self.options.thinned
        prior = self.options.thinned_prior(self.prior, stride)
        chance = thinned(members.chance, stride)
        limit, spare = self.stakes.max_cost_usd, ROUNDING if stride == 1 else _COARSE
        curves = Curves(
            kin=members.kin,
            start=members.start,
            rejection=self.stakes.rejection(chance),
            worth=self.stakes.gain_usd * chance - thinned(self.expense[rows], stride),
            cost=thinned(self.options.cost[of], stride),
            limit_usd=None if limit is None else limit * (1 + spare),
            kinds=self.options.kinds,
        )
        if stride == 1 or curves.kinds == 1:
            return search(prior / prior.sum(), curves, steps, self.tie)
        return search((prior / prior.sum()).astype(np.float32), curves.rounded(), steps, self.tie * _ROUNDED)

    def _too_dear(self, members: Members, order: Sequence[int]) -> bool:
        """Whether a step exceeds the limit by more than rounding."""
        limit, reach, before = self.stakes.max_cost_usd, self.prior, list[int]()
        if limit is None:
            return False
        for m in order:
            cost = float(reach @ self.options.cost[members.of[m]])
            if cost > limit * (1 + ROUNDING) * float(reach.sum()):
                return True
            reach = reach * self.stakes.rejection(members.chance[members.row(m, before)])
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
