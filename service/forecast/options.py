"""What may be tried on a task: the candidates' chances, costs and minutes, and the luck that their attempts share."""

from collections.abc import Sequence
from copy import copy

import numpy as np

from service.base.remembered import Remembered
from service.contract.verifier import Verifier
from service.forecast.difficulty import Array
from service.forecast.luck import Kinship, Tried, chance_after
from service.forecast.members import Members, gather

VERIFIERS_KEPT = 4
"""For so many, the chances after what was rejected are remembered."""

MEMBERS_KEPT = 4
"""Tables of members that are remembered, of up to 40 KB: they depend on the verifier and on the first step's model."""


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
        self._remember()

    def _remember(self) -> None:
        self._told: Remembered[Verifier, dict[int, Array]] = Remembered(VERIFIERS_KEPT)
        self._members: Remembered[tuple[tuple[int, ...], int | None, Verifier], Members] = Remembered(MEMBERS_KEPT)

    def tried(self, candidate: int) -> Tried:
        """An attempt of this candidate."""
        return Tried(self.kinship.model[candidate], self.kinship.pair[candidate], self.chance[candidate])

    def priced(self, prices: Sequence[float]) -> "Options":
        """The same where an attempt of each candidate takes only so much of its list price."""
        made = copy(self)
        made.cost = self.list_cost * np.array(prices)[:, None]
        return made

    def with_chance(self, chance: Array) -> "Options":
        """The same with other chances at a first attempt."""
        made = copy(self)
        made.chance = chance
        made._remember()  # noqa: SLF001 - of this very class
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
        told = self._told.get(verifier, self._after_rejected)
        if not told:
            return self.chance
        chance = self.chance.copy()
        for candidate, after in told.items():
            chance[candidate] = after
        return chance

    def members(self, kept: tuple[int, ...], first: int | None, verifier: Verifier) -> Members:
        """The attempts that may follow `first`, out of the candidates `kept`."""
        if first is not None and self.kinship.model.count(self.kinship.model[first]) == 1 and self.tries[first] == 1:
            kept, first = tuple(c for c in kept if c != first), None  # tells nothing of any other's luck
        return self._members.get((kept, first, verifier), self._gather)

    def _gather(self, shown: tuple[tuple[int, ...], int | None, Verifier]) -> Members:
        kept, first, verifier = shown
        of = [c for c in kept for _ in range(self.tries[c] - (c == first))]
        rejected = self.kinship.rejected if first is None else (*self.kinship.rejected, self.tried(first))
        return gather(self.chance, of, self.kinship.model, self.kinship.pair, rejected, verifier)

    def _after_rejected(self, verifier: Verifier) -> dict[int, Array]:
        """Of the candidates whose luck `rejected` tells of: few, and the others' curves are not kept twice."""
        models = {one.model for one in self.kinship.rejected}
        of_those = [c for c, model in enumerate(self.kinship.model) if model in models]
        return {c: self.chance_after((), c, verifier) for c in of_those}
