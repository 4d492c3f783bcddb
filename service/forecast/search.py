"""The search for the best plan: an exact dynamic programme over sets of attempts that were rejected.

What is left of a task after rejections depends on which attempts were rejected and not on their order, so a state is
the set S of those, weighted by how likely it is to be reached. With W(S, g) the probability of grid point g and of
every attempt in S being rejected, making attempt m next is worth Σ_g W(S, g) · worth_m(g), and

    V(S) = max(0, max over m not in S of that worth + V(S ∪ {m})).

An attempt that would be too dear in a state is not made there, so that a limit on the cost of one attempt is part of
the programme: V is the best within it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt

from service.forecast.difficulty import Array

Index = npt.NDArray[np.intp]
Kin = tuple[tuple[int, ...], ...]

LOOKS = 3
"""After so many rejections it is not looked for an end any more: most plans end before, and where attempts are worth
much the look costs a third of the search and finds none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What the search needs of each attempt: `rejection` and `worth` have a row for each of Members.chance, `cost` one
    for each member, None where nothing limits it; `kin` and `start` are those of Members. `kinds` says how many equal
    parts the grid has."""

    kin: Kin
    start: tuple[int, ...]
    rejection: Array
    worth: Array
    cost: Array | None
    limit_usd: float
    kinds: int = 1

    def rounded(self) -> "Curves":
        """The same in numbers of four bytes."""
        few = np.float32
        fewer = replace(self, rejection=self.rejection.astype(few), worth=self.worth.astype(few))
        return fewer if self.cost is None else replace(fewer, cost=self.cost.astype(few))


@dataclass(frozen=True, slots=True)
class _Level:
    """All sets of k members, ordered by their largest member, then by the next (colexicographic).

    `smaller` numbers the set of k − 1 that each has without its largest member, and `follows` says which curve that one
    then has. `parents` has, for sets of up to LOOKS, their ways from a smaller one: places in its table.
    In tables of members × sets, `child` numbers each set with one more member (own members: −1), `own` is −∞ for own
    members and else 0, and `curve` says which curve each member has after each set; None where each has one only.
    """

    smaller: Index
    follows: Index
    parents: Index
    child: Index
    own: npt.NDArray[np.float32]
    curve: Index | None


def search(prior: Array, curves: Curves, steps: int, tie: float) -> list[int]:
    """The members in the order of the best plan of at most `steps`; empty where not even one step is worth its cost.

    Of plans whose worth differs by less than `tie`, the one with more in hand after its first step, then the one whose
    members come earlier.
    """
    steps = min(steps, len(curves.kin))
    levels = _levels(len(curves.kin), steps, curves.kin, curves.start)
    gains: list[Array] = []
    reach, best = prior[None, :], 0.0
    through: Array = np.zeros((1, 1), prior.dtype)
    room = _ROOM.of(max(level.child.shape[1] for level in levels) * len(prior))
    for size, level in enumerate(levels):
        reach = _reach(reach, level, curves, room[size % 2]) if size else reach
        if size > LOOKS:
            gains.append(_gain(reach, level, curves))
            if gains[-1].max() <= 0 and _gain_and_hope(reach, level, curves)[1].max() <= tie:
                break
            continue
        so_far = through.take(level.parents).max(axis=0)
        gain, hope = _gain_and_hope(reach, level, curves)
        gains.append(gain)
        through = so_far + gain
        best = max(best, float(through.max()))
        if float(np.where(hope > tie, so_far + hope, -np.inf).max()) < best - tie:
            break
    totals: list[Array] = []
    then: Array | None = None
    for level, gain in zip(reversed(levels[: len(gains)]), reversed(gains), strict=True):
        total: Array = gain if then is None else gain + then.take(level.child)
        totals.append(total)
        then = _best(total)
    return _follow(levels, gains, totals[::-1], tie)


def _best(total: Array) -> Array:
    """What each set is worth by the best next member, or none; and last −∞, to which a set's own members lead."""
    best: Array = np.full_like(total, -np.inf, shape=total.shape[1] + 1)
    best[:-1] = np.maximum(total.max(axis=0), 0.0)
    return best


def _reach(before: Array, level: _Level, curves: Curves, room: Array) -> Array:
    sets, points = level.child.shape[1], before.shape[1]
    reach = room.view(before.dtype)[: sets * points].reshape(sets, points)
    before.take(level.smaller, axis=0, out=reach, mode="clip")  # else it would be copied once more
    reach *= curves.rejection.take(level.follows, axis=0)
    return reach


class _Room(threading.local):
    """Two pieces of memory for each thread, used in turn: fresh ones would cost six times what is computed in them."""

    def __init__(self) -> None:
        self.pieces = (np.empty(0), np.empty(0))

    def of(self, size: int) -> tuple[Array, Array]:
        """Two of at least so many numbers; what they hold is anything."""
        if size > _ROOM_KEPT:
            return np.empty(size), np.empty(size)
        if size > len(self.pieces[0]):
            self.pieces = (np.empty(size), np.empty(size))
        return self.pieces


_ROOM = _Room()
_ROOM_KEPT = 500_000
"""Numbers in the largest piece of memory that is kept: 4 MB, more than any search of twelve candidates needs."""


def _gain(reach: Array, level: _Level, curves: Curves) -> Array:
    """What each member is worth after each set, its own members −∞."""
    gain: Array = curves.worth @ reach.T
    if level.curve is not None:
        gain = np.take_along_axis(gain, level.curve, axis=0)
    gain += level.own
    return _affordable(gain, reach, curves)


def _gain_and_hope(reach: Array, level: _Level, curves: Curves) -> tuple[Array, Array]:
    """The same, and what all that may follow each set is worth at most.

    In one kind of work no attempt is worth more after a rejection than before, unless it is worth nothing in both, nor
    is it cheaper.
    """
    if curves.kinds == 1:
        gain = _gain(reach, level, curves)
        return gain, np.maximum(gain, 0.0).sum(axis=0)
    sets, points = reach.shape
    parts = (curves.kinds, points // curves.kinds)
    worth = curves.worth.reshape(-1, *parts).transpose(1, 0, 2)
    by_kind: Array = worth @ reach.reshape(sets, *parts).transpose(1, 2, 0)
    if level.curve is not None:
        by_kind = np.take_along_axis(by_kind, level.curve[None], axis=1)
    by_kind += level.own
    hope: Array = np.maximum(by_kind, 0.0).reshape(-1, sets).sum(axis=0)
    return _affordable(by_kind.sum(axis=0), reach, curves), hope


def _affordable(gain: Array, reach: Array, curves: Curves) -> Array:
    if curves.cost is not None:
        gain[curves.cost @ reach.T > curves.limit_usd * reach.sum(axis=1)] = -np.inf
    return gain


def _follow(levels: Sequence[_Level], gains: Sequence[Array], totals: Sequence[Array], tie: float) -> list[int]:
    order: list[int] = []
    state = 0
    for level, gain, total in zip(levels, gains, totals, strict=False):
        row = total[:, state]
        top = row.max()
        if top <= tie:
            break
        soon = np.where(row >= top - tie, gain[:, state], -np.inf)
        order.append(int(np.argmax(soon >= soon.max() - tie)))
        state = int(level.child[order[-1], state])
    return order


@lru_cache(maxsize=256)
def _levels(n: int, steps: int, kin: Kin, start: tuple[int, ...]) -> tuple[_Level, ...]:
    """The index tables for sets of 0 to `steps` − 1 out of `n`. A set is a number whose bits are its members, and those
    of one size in ascending order are in colexicographic order."""
    numbers = np.arange(1 << n, dtype=np.intp)
    sizes = np.bitwise_count(numbers)
    sets = [np.flatnonzero(sizes == size) for size in range(steps + 1)]
    rank = np.empty(1 << n, dtype=np.intp)
    for of_size in sets:
        rank[of_size] = np.arange(len(of_size))
    bits = 1 << np.arange(n, dtype=np.intp)[:, None]
    levels: list[_Level] = []
    curve: Index | None = None
    for size in range(steps):
        mine = sets[size]
        child = np.where(mine & bits, -1, rank[mine | bits])
        # The first so many sets of k − 1 have smaller members only, so that they take on each member in turn.
        counts = [comb(m, size - 1) for m in range(n)] if size else []
        smaller = np.concatenate([numbers[:count] for count in counts]) if size else numbers[:0]
        largest = np.repeat(np.arange(len(counts)), counts)
        follows = np.array(start)[largest] if curve is None else curve[largest, smaller]
        curve = _curve(sets[size], kin, start) if any(kin) else None
        parents = _parents(mine, bits, rank, len(sets[size - 1]) if 0 < size <= LOOKS else 0)
        own = np.where(child < 0, np.float32(-np.inf), np.float32(0))
        levels.append(_Level(smaller, follows, parents, child, own, curve))
    return tuple(levels)


def _parents(sets: Index, bits: Index, rank: Index, smaller: int) -> Index:
    """The places of each set's members in a table of members × so many `smaller` sets; place 0 where there are none, or
    nobody looks."""
    if not smaller:
        return np.zeros((1, 1), np.intp)
    places = np.arange(len(bits))[:, None] * smaller + rank[sets & ~bits]
    return np.sort(np.where(sets & bits, places, -1), axis=0)[-int(np.bitwise_count(sets[0])) :]


def _curve(sets: Index, kin: Kin, start: tuple[int, ...]) -> Index:
    """Which row of the curves each member follows after each of these sets."""
    found = np.empty((len(kin), len(sets)), dtype=np.intp)
    for m, others in enumerate(kin):
        found[m] = start[m] + sum((sets >> other & 1) << bit for bit, other in enumerate(others))
    return found
