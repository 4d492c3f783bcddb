"""What may be tried on a task: the candidates' chances, costs and minutes, and the luck that their attempts share."""

from collections.abc import Callable, Sequence
from copy import copy
from functools import lru_cache, partial

import numpy as np

from service.contract.verifier import Verifier
from service.forecast.difficulty import Array
from service.forecast.luck import Kinship, Tried, chance_after
from service.forecast.members import Members, gather
from service.forecast.prospects import Prospects
from service.forecast.stakes import Stakes

MEMBERS_KEPT = 16
"""Tables of members that options remember: they depend on the verifier and on the first step's model."""

PROSPECTS_KEPT = 2
"""What is at stake is mostly the same; of five kinds and twelve candidates each takes some 200 KB."""


class Options:
    """What may be tried, candidates × grid: chances at a first attempt, costs in US dollars, and minutes where known.

    Costs and minutes are multiples of one curve for each kind of work, so that what is dearer at one difficulty is so
    at each. `tries` says how often each may be tried in one plan. The grid has an equal part for each of `kinds`, whose
    last two points are far from the others. Immutable but for what it remembers, and shared by tasks.
    """

    def __init__(
        self,
        chance: Array,
        cost: Array,
        *,
        minutes: Array | None = None,
        kinship: Kinship | None = None,
        tries: Sequence[int] | None = None,
        kinds: int = 1,
    ) -> None:
        """Without `kinship` no candidate tells of another's luck, and nothing was rejected before."""
        strangers = tuple(range(len(chance)))
        self.chance = chance
        self.cost = cost
        self.list_cost = cost
        self.minutes = minutes
        self.kinship = kinship or Kinship(model=strangers, pair=strangers)
        self.tries = (1,) * len(chance) if tries is None else tuple(tries)
        self.kinds = kinds
        self._remember_chances()
        self._remember_prospects()

    def _remember_chances(self) -> None:
        self._members = lru_cache(MEMBERS_KEPT)(self._gather)
        self._now = lru_cache(MEMBERS_KEPT)(self._after_rejected)

    def _remember_prospects(self) -> None:
        self.prospects: Callable[[Stakes], Prospects] = lru_cache(PROSPECTS_KEPT)(partial(Prospects, self))

    def tried(self, candidate: int) -> Tried:
        """An attempt of this candidate."""
        return Tried(self.kinship.model[candidate], self.kinship.pair[candidate], self.chance[candidate])

    def priced(self, prices: Sequence[float]) -> "Options":
        """The same where an attempt of each candidate takes only so much of its list price."""
        made = copy(self)
        made.cost = self.list_cost * np.array(prices)[:, None]
        made._remember_prospects()  # noqa: SLF001 - of this very class
        return made

    def larger(self, factor: float | Array) -> "Options":
        """The same where every attempt costs and takes so many times as much; in each kind its own times, if they are
        told for candidates × (kinds × grid)."""
        made = copy(self)
        made.cost = made.list_cost = self.list_cost * factor
        made.minutes = None if self.minutes is None else self.minutes * factor
        made._remember_prospects()  # noqa: SLF001 - of this very class
        return made

    def with_chance(self, chance: Array) -> "Options":
        """The same with other chances at a first attempt."""
        made = copy(self)
        made.chance = chance
        made._remember_chances()  # noqa: SLF001 - of this very class
        made._remember_prospects()  # noqa: SLF001 - of this very class
        return made

    def chance_after(self, orders: Sequence[int], candidate: int, verifier: Verifier) -> Array:
        """The chances of a candidate after `rejected` and after these candidates, by what they tell of its luck."""
        before = [one for one in self.kinship.rejected if one.model == self.kinship.model[candidate]]
        before += [self.tried(c) for c in orders if self.kinship.model[c] == self.kinship.model[candidate]]
        return chance_after(before, self.tried(candidate), verifier)

    def by_kind(self, values: Array) -> Array:
        """Values over the grid, the last axis, with an axis for kinds before it."""
        return values.reshape(*values.shape[:-1], self.kinds, -1)

    def thinned(self, values: Array, stride: int) -> Array:
        """Values at every so many points of each kind's grid, and at its end."""
        if stride == 1:
            return values
        parts = self.by_kind(values)
        kept = np.concatenate([parts[..., :-2:stride], parts[..., -1:]], axis=-1)
        return kept.reshape(*values.shape[:-1], -1)

    def thinned_prior(self, prior: Array, stride: int) -> Array:
        """A distribution on those points, up to a constant."""
        if stride == 1:
            return prior
        parts = self.by_kind(prior)
        ends = parts[..., -2:].sum(axis=-1, keepdims=True) / stride
        return np.concatenate([parts[..., :-2:stride], ends], axis=-1).reshape(-1)

    def chance_now(self, verifier: Verifier) -> Array:
        """The chances of each candidate's next attempt after `rejected`: those of a first one, but for its luck."""
        return self._now(verifier)

    def members(self, kept: tuple[int, ...], first: int | None, verifier: Verifier) -> Members:
        """The attempts that may follow `first`, out of the candidates `kept`."""
        if first is not None and self.kinship.model.count(self.kinship.model[first]) == 1 and self.tries[first] == 1:
            kept, first = tuple(c for c in kept if c != first), None  # tells nothing of any other's luck
        return self._members(kept, first, verifier)

    def _after_rejected(self, verifier: Verifier) -> Array:
        if not any(one.model in self.kinship.model for one in self.kinship.rejected):
            return self.chance
        return np.array([self.chance_after((), c, verifier) for c in range(len(self.chance))])

    def _gather(self, kept: tuple[int, ...], first: int | None, verifier: Verifier) -> Members:
        of = [c for c in kept for _ in range(self.tries[c] - (c == first))]
        rejected = self.kinship.rejected if first is None else (*self.kinship.rejected, self.tried(first))
        return gather(self.chance, of, self.kinship.model, self.kinship.pair, rejected, verifier)
