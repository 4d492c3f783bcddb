"""What trying is worth: options and what is at stake together, the same for all tasks that share both."""

from functools import cached_property, lru_cache

import numpy as np

from service.base.remembered import Remembered
from service.forecast.difficulty import Array
from service.forecast.members import Members
from service.forecast.options import Options
from service.forecast.search import Curves
from service.forecast.stakes import Stakes

KEPT = 32
"""Options at certain stakes whose prospects are remembered, of all tasks; the latest are used most. With twelve
candidates and five kinds each takes 0.1 MB, and 0.05 MB for each of its curves."""

CURVES_KEPT = 8
"""Of each: which candidates a search looks at differs little from task to task."""

TIE = 1e-12
"""Plans whose worth differs by less than this share of the money at stake are equal."""

ROUNDING = 1e-9
"""A cost keeps a limit that it exceeds by this share: the last bits of a sum are no breach."""

COARSE = 5e-3
"""The same for a coarse grid, whose costs may be wrong by as much. A plan that exceeds the limit by the fine grid is
searched for anew on that; one that does not is the best of more than the limit allows."""

_Shown = tuple[tuple[int, ...], int | None, int]


class Prospects:
    """Candidates × (kinds × grid), in US dollars: what an attempt takes whatever comes of it (`expense`), and what it
    is worth (`worth`); and the chance that it is rejected (`rejection`). All of a next attempt, after what was rejected
    before. `tie` is by how much plans may differ that are equal. Immutable but for what it remembers."""

    def __init__(self, options: Options, stakes: Stakes) -> None:
        now = options.chance_now(stakes.verifier)
        self.options = options
        self.stakes = stakes
        self.expense: Array = stakes.expense(options.cost, options.minutes)
        self.worth: Array = stakes.gain_usd * now - self.expense
        self.tie = TIE * (stakes.gain_usd + float(self.expense.max()))
        self._kept: Remembered[_Shown, tuple[Members, Curves]] = Remembered(CURVES_KEPT)

    @cached_property
    def rejection(self) -> Array:
        """The chance that a next attempt is rejected."""
        return self.stakes.rejection(self.options.chance_now(self.stakes.verifier))

    def by_kind(self, prior: Array) -> Array:
        """What a next attempt is worth, candidates × kinds; each kind counts by its share in `prior`."""
        options = self.options
        found: Array = np.einsum("ckg,kg->ck", options.by_kind(self.worth), options.by_kind(prior))
        return found

    def curves(self, kept: tuple[int, ...], first: int | None, stride: int) -> tuple[Members, Curves]:
        """The attempts that may follow `first`, out of the candidates `kept`, and what the search needs of them: every
        so many points of the grid; of several kinds in numbers of four bytes where points are left out."""
        return self._kept.get((kept, first, stride), self._curves)

    def _curves(self, shown: _Shown) -> tuple[Members, Curves]:
        (kept, first, stride), options, stakes = shown, self.options, self.stakes
        members = options.members(kept, first, stakes.verifier)
        rows, of = [members.of[m] for m in members.row_of], list(members.of)
        chance = options.thinned(members.chance, stride)
        limit, spare = stakes.max_cost_usd, ROUNDING if stride == 1 else COARSE
        curves = Curves(
            kin=members.kin,
            start=members.start,
            rejection=stakes.rejection(chance),
            worth=stakes.gain_usd * chance - options.thinned(self.expense[rows], stride),
            cost=None if limit is None else options.thinned(options.cost[of], stride),
            limit_usd=0.0 if limit is None else limit * (1 + spare),
            kinds=options.kinds,
        )
        return members, curves if stride == 1 or curves.kinds == 1 else curves.rounded()


@lru_cache(KEPT)
def prospects_of(options: Options, stakes: Stakes) -> Prospects:
    """The same for the very same options at equal stakes, as long as they are remembered."""
    return Prospects(options, stakes)
