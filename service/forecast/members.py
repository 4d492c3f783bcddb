"""The attempts that a plan may hold, in the form in which the search for it reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from service.contract.verifier import Verifier
from service.forecast.difficulty import Array
from service.forecast.luck import Tried, chance_after

MAX_KIN = 5
"""Of more than six attempts of one model in one plan, only six tell of each other's luck: each doubles the curves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """`of` numbers the candidate of each member, twice where it may be tried twice.

    `kin` names for each member those whose rejection tells of its luck, ascending; mostly none. `chance` has a row for
    each member and each set of its kin that was rejected: those of member m begin at `start[m]`, in the order of the
    binary numbers whose bits are its kin.
    """

    of: tuple[int, ...]
    kin: tuple[tuple[int, ...], ...]
    start: tuple[int, ...]
    chance: Array

    @property
    def row_of(self) -> list[int]:
        """The member of each row of `chance`."""
        return [m for m, kin in enumerate(self.kin) for _ in range(1 << len(kin))]

    def row(self, member: int, rejected: Sequence[int]) -> int:
        """Where `chance` has this member's after these members were rejected."""
        return self.start[member] + sum(1 << bit for bit, kin in enumerate(self.kin[member]) if kin in rejected)


def gather(
    chance: Array,
    of: Sequence[int],
    model: Sequence[int],
    pair: Sequence[int],
    rejected: Sequence[Tried],
    verifier: Verifier,
) -> Members:
    """The members that candidates `of` give, after attempts that were rejected.

    `chance` holds each candidate's chances at a first attempt, `model` the number of its model: attempts of one number
    share its luck. `pair` numbers the candidates as `rejected` does.
    """
    models = {model[c] for c in of}
    if len(models) == len(of) and not any(one.model in models for one in rejected):
        return Members(of=tuple(of), kin=((),) * len(of), start=tuple(range(len(of))), chance=chance[list(of)])
    sharing = {number: [m for m, c in enumerate(of) if model[c] == number][: MAX_KIN + 1] for number in models}
    kin = tuple(
        tuple(o for o in sharing[model[c]] if o != m) if m in sharing[model[c]] else () for m, c in enumerate(of)
    )
    rows: list[Array] = []
    for m, c in enumerate(of):
        before = [one for one in rejected if one.model == model[c]]
        for code in range(1 << len(kin[m])):
            also = [Tried(model[c], pair[of[k]], chance[of[k]]) for bit, k in enumerate(kin[m]) if code >> bit & 1]
            rows.append(chance_after([*before, *also], Tried(model[c], pair[c], chance[c]), verifier))
    start = tuple(accumulate((1 << len(k) for k in kin[:-1]), initial=0))
    return Members(of=tuple(of), kin=kin, start=start, chance=np.array(rows))
