"""What may be tried on a task: the candidates' chances, costs and minutes, and the luck that their attempts share."""

from collections.abc import Sequence
from copy import copy
from functools import lru_cache

import numpy as np

from service.contract.verifier import Verifier
from service.forecast.difficulty import Array
from service.forecast.luck import Tried, chance_after
from service.forecast.members import Members, gather

MEMBERS_KEPT = 16
"""Tables of members that options remember: they depend on the verifier and on the first step's model."""


class Options:
    """What may be tried, candidates × grid: chances at a first attempt, costs in US dollars, and minutes where known.

    Costs and minutes are multiples of one curve for each kind of work, so that what is dearer at one difficulty is so
    at each. `model` and `pair` number each candidate's model and the candidate itself, as `rejected`, the attempts
    before the plan, do: attempts of one model share luck. `tries` says how often each may be tried in one plan. The
    grid has an equal part for each of `kinds`. Immutable but for what it remembers, and shared by tasks.
    """

    def __init__(
        self,
        chance: Array,
        cost: Array,
        *,
        minutes: Array | None = None,
        model: Sequence[int] | None = None,
        tries: Sequence[int] | None = None,
        pair: Sequence[int] | None = None,
        rejected: Sequence[Tried] = (),
        kinds: int = 1,
    ) -> None:
        self.chance = chance
        self.cost = cost
        self.list_cost = cost
        self.minutes = minutes
        self.model = tuple(range(len(chance))) if model is None else tuple(model)
        self.tries = (1,) * len(chance) if tries is None else tuple(tries)
        self.pair = tuple(range(len(chance))) if pair is None else tuple(pair)
        self.rejected = tuple(rejected)
        self.kinds = kinds
        self._members = lru_cache(MEMBERS_KEPT)(self._gather)
        self._now = lru_cache(MEMBERS_KEPT)(self._after_rejected)

    def tried(self, candidate: int) -> Tried:
        """An attempt of this candidate."""
        return Tried(self.model[candidate], self.pair[candidate], self.chance[candidate])

    def priced(self, prices: Sequence[float]) -> "Options":
        """The same where an attempt of each candidate takes only so much of its list price."""
        made = copy(self)
        made.cost = self.list_cost * np.array(prices)[:, None]
        return made

    def chance_after(self, orders: Sequence[int], candidate: int, verifier: Verifier) -> Array:
        """The chances of a candidate after `rejected` and after these candidates, by what they tell of its luck."""
        before = [one for one in self.rejected if one.model == self.model[candidate]]
        before += [self.tried(c) for c in orders if self.model[c] == self.model[candidate]]
        return chance_after(before, self.tried(candidate), verifier)

    def by_kind(self, values: Array) -> Array:
        """Values over the grid, the last axis, with an axis for kinds before it."""
        return values.reshape(*values.shape[:-1], self.kinds, -1)

    def thinned(self, values: Array, stride: int) -> Array:
        """Values at every so many points of each kind's grid."""
        return values if stride == 1 else self.by_kind(values)[..., ::stride].reshape(*values.shape[:-1], -1)

    def chance_now(self, verifier: Verifier) -> Array:
        """The chances of each candidate's next attempt after `rejected`: those of a first one, but for its luck."""
        return self._now(verifier)

    def members(self, kept: tuple[int, ...], first: int | None, verifier: Verifier) -> Members:
        """The attempts that may follow `first`, out of the candidates `kept`."""
        if first is not None and self.model.count(self.model[first]) == 1 and self.tries[first] == 1:
            kept, first = tuple(c for c in kept if c != first), None  # tells nothing of any other's luck
        return self._members(kept, first, verifier)

    def _after_rejected(self, verifier: Verifier) -> Array:
        if not any(one.model in self.model for one in self.rejected):
            return self.chance
        return np.array([self.chance_after((), c, verifier) for c in range(len(self.chance))])

    def _gather(self, kept: tuple[int, ...], first: int | None, verifier: Verifier) -> Members:
        of = [c for c in kept for _ in range(self.tries[c] - (c == first))]
        rejected = self.rejected if first is None else (*self.rejected, self.tried(first))
        return gather(self.chance, of, self.model, self.pair, rejected, verifier)
