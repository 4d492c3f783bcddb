"""What kinds of work are worth for pairs that nobody picked: sets drawn by lot, whole curves, and simpler planners.

`python -m tests.load.kinds_quality --lots` calls this. For each set of pairs and each halving of the tasks, a policy
decides each half by what the other half says, at every value; its points of cost and solve rate make a curve, and
curves are held against that of one rate for all kinds.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from service.contract.catalog import Catalog
from service.contract.task import Attempt
from service.forecast.ability import learn
from service.forecast.forecaster import Forecaster
from service.forecast.plan import MAX_STEPS
from service.forecast.stakes import Stakes
from tests.load.kinds_known import LEARNED_TASKS, catalog, halved, outcomes, sample
from tests.support.recorded_tasks import Array

VALUES = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 15.0, 22.0, 30.0)
"""Dollars that a solved task is worth: the points of a curve."""

DEFAULT = 3.0
NET = (1.0, 3.0, 15.0)
PAIRS = 10
POINTS, SHARE = 5.0, 60.0
"""What is aimed at: so many points, or so many hundredths of the cost."""

BASE = "one rate"
PLACES = 40
"""Costs and rates at which two curves are compared, evenly spread over what they have in common."""

Row = dict[str, Any]
Flags = npt.NDArray[np.bool_]


class Policy(Protocol):
    """What decides: the next pair to try, or None to stop."""

    def next(self, kind: int, left: tuple[int, ...], failed: tuple[int, ...], value: float) -> int | None:
        """Of those that are `left` after these failures."""
        ...


class Planned:
    """The service's own forecast and plan."""

    def __init__(self, forecaster: Forecaster, kinds: Sequence[str]) -> None:
        self._forecaster = forecaster
        self._kinds = kinds
        self._candidates = forecaster.catalog.candidates
        self.next = lru_cache(maxsize=None)(self._next)

    def _next(self, kind: int, left: tuple[int, ...], failed: tuple[int, ...], value: float) -> int | None:
        attempts = [
            Attempt(agent_type=a, model=m, result="failed") for a, m in (self._candidates[c].key for c in failed)
        ]
        forecast = self._forecaster.forecast(
            [self._candidates[c] for c in left],
            labels={},
            minutes=None,
            minutes_source="text",
            attempts=attempts,
            kinds={self._kinds[kind]: 1.0},
        )
        plan = forecast.plan(Stakes(value_usd=value), max_steps=min(MAX_STEPS, len(left)))
        if failed and not plan.worthwhile:
            return None
        keys = [self._candidates[c].key for c in left]
        return left[keys.index(plan.steps[0].key)]


class Simple:
    """Chances that are taken for independent: the best order is by chance over cost; so many attempts at most."""

    def __init__(self, rates: Array, costs: Array, most: int) -> None:
        self._rates, self._costs, self._most = rates, costs, most
        self.next = lru_cache(maxsize=None)(self._next)

    def _next(self, kind: int, left: tuple[int, ...], failed: tuple[int, ...], value: float) -> int | None:
        chance, cost = self._rates[kind], self._costs[kind]
        order = sorted(left, key=lambda c: -chance[c] / max(cost[c], 1e-9))
        best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] * (self._most + 1 - len(failed))
        for c in reversed(order):
            for n in range(len(best) - 1, 0, -1):
                then = best[n - 1]
                taken = value * chance[c] - cost[c] + (1 - chance[c]) * then[0]
                if taken > best[n][0]:
                    best[n] = (float(taken), (c, *then[1]))
        if best and best[-1][1]:
            return best[-1][1][0]
        return None if failed else max(left, key=lambda c: value * chance[c] - cost[c])


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks × pairs: whether it was tried, whether solved, at which cost; the kind of each task."""

    tried: Flags
    solved: Flags
    cost: Array
    kind: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Row], pairs: Sequence[str], kinds: Sequence[str]) -> "Tasks":
        """As recorded."""
        found = [[row["outcomes"].get(pair) for pair in pairs] for row in rows]
        return cls(
            np.array([[one is not None for one in row] for row in found]),
            np.array([[one is not None and one["solved"] for one in row] for row in found]),
            np.array([[0.0 if one is None else one["cost_usd"] for one in row] for row in found]),
            np.array([kinds.index(row["labels"]["kind"]) for row in rows]),
        )

    def groups(self) -> list[tuple[int, tuple[int, ...], npt.NDArray[np.intp]]]:
        """Tasks for which nothing differs before they are tried: kind, pairs that were tried, and which they are."""
        both = np.column_stack([self.kind, self.tried])
        keys, of = np.unique(both, axis=0, return_inverse=True)
        return [
            (int(key[0]), tuple(np.flatnonzero(key[1:]).tolist()), np.flatnonzero(of == g))
            for g, key in enumerate(keys)
        ]


def played(policy: Policy, tasks: Tasks, kinds: int, value: float) -> tuple[float, float]:
    """Solve rate and cost with kinds weighted equally: every task decided, and decided again after each failure."""
    solved, cost = np.zeros(kinds), np.zeros(kinds)
    for kind, tried, rows in tasks.groups():
        failed: tuple[int, ...] = ()
        while len(rows) and len(failed) < len(tried):
            one = policy.next(kind, tuple(c for c in tried if c not in failed), failed, value)
            if one is None:
                break
            cost[kind] += tasks.cost[rows, one].sum()
            solved[kind] += tasks.solved[rows, one].sum()
            rows, failed = rows[~tasks.solved[rows, one]], (*failed, one)
    number = np.bincount(tasks.kind, minlength=kinds)
    return float((solved / number).mean()), float((cost / number).mean())


def policies(
    known: Sequence[Row], tested: Sequence[Row], pairs: Sequence[str], kinds: Sequence[str], seed: int
) -> dict[str, Policy]:
    """Those that are compared; the oracle of kinds knows the rates of the very tasks that it decides."""
    one, each = catalog(known, pairs, kinds, each=False), catalog(known, pairs, kinds, each=True)
    found: dict[str, Policy] = {
        BASE: Planned(Forecaster(one), kinds),
        "rate per kind": Planned(Forecaster(each), kinds),
    }
    for number in LEARNED_TASKS:
        taught = outcomes(sample(known, kinds, number, seed), pairs)
        found[f"learned, {number} a kind"] = Planned(Forecaster(one, learn(one, taught)), kinds)
    found["oracle of kinds"] = Planned(Forecaster(catalog(tested, pairs, kinds, each=True)), kinds)
    for most in (1, 2, 3):
        found[f"simple, {most}: one rate"] = Simple(*_figures(one, kinds), most)
        found[f"simple, {most}: per kind"] = Simple(*_figures(each, kinds), most)
    return found


def _figures(one: Catalog, kinds: Sequence[str]) -> tuple[Array, Array]:
    told = [[candidate.kinds.get(kind, candidate) for candidate in one.candidates] for kind in kinds]
    rates = np.array([[figures.solve_rate for figures in row] for row in told], dtype=np.float64)
    return rates, np.array([[figures.cost_usd for figures in row] for row in told], dtype=np.float64)


def curves(rows: Sequence[Row], pairs: Sequence[str], kinds: Sequence[str], seed: int) -> dict[str, Array]:
    """For each policy (solve rate, cost) at each of VALUES, over both halves."""
    told = [row for row in rows if any(pair in row["outcomes"] for pair in pairs)]
    halves = halved(told, kinds, seed)
    found: dict[str, list[Array]] = {}
    for tested, known in (halves, halves[::-1]):
        tasks = Tasks.of(tested, pairs, kinds)
        for name, policy in policies(known, tested, pairs, kinds, seed).items():
            points = np.array([played(policy, tasks, len(kinds), value) for value in VALUES])
            found.setdefault(name, []).append(points)
    return {name: np.mean(two, axis=0) for name, two in found.items()}


def along(mine: Array, base: Array) -> tuple[float, float]:
    """Points gained at equal cost, and share of the cost at equal rate, each the mean over what both curves reach."""
    (rate, cost), (its_rate, its_cost) = _rising(mine), _rising(base)
    gain = _mean_difference((cost, rate), (its_cost, its_rate))
    return gain, exp(_mean_difference((rate, cost), (its_rate, its_cost)))


def _mean_difference(mine: tuple[Array, Array], base: tuple[Array, Array]) -> float:
    """Of two functions over what both are told of; NaN where that is nothing."""
    low, high = max(float(one[0][0]) for one in (mine, base)), min(float(one[0][-1]) for one in (mine, base))
    if high <= low:
        return float("nan")
    places = low + (high - low) / (PLACES - 1) * np.arange(PLACES)
    difference: Array = np.interp(places, *mine) - np.interp(places, *base)
    return float(difference.mean())


def at(mine: Array, base: Array, value: float) -> tuple[float, float]:
    """The same against the point of `base` at that value."""
    rate, cost = _rising(mine)
    its_rate, its_cost = map(float, base[VALUES.index(value)])
    gain = float(np.interp(log(its_cost), cost, rate)) - its_rate
    return gain, exp(float(np.interp(its_rate, rate, cost))) / its_cost


def net(points: Array, value: float) -> float:
    """What a task is worth less what it costs, at that value."""
    rate, cost = points[VALUES.index(value)]
    return float(value * rate - cost)


def _rising(points: Array) -> tuple[Array, Array]:
    """Rates and logs of costs of those points that no cheaper one reaches."""
    order = np.lexsort((-points[:, 0], points[:, 1]))
    rate, cost = points[order].T
    better = np.r_[True, rate[1:] > np.maximum.accumulate(rate)[:-1]]
    return rate[better], np.log(cost[better])


def run(rows: Sequence[Row], kinds: Sequence[str], sets: range, halvings: int) -> None:
    """Prints for each policy what it gains over one rate, with intervals over sets."""
    every = sorted({pair for row in rows for pair in row["outcomes"]})
    tried = Tasks.of(rows, every, kinds)
    on_all = sum(all(tried.tried[tried.kind == kind, p].any() for kind in range(len(kinds))) for p in range(len(every)))
    print(f"{len(every)} pairs, of which {on_all} were tried on all {len(kinds)} kinds")
    found: dict[str, list[list[tuple[float, ...]]]] = {}
    begun = time.monotonic()
    for number in sets:
        pairs = drawn(every, number)
        made = [curves(rows, pairs, kinds, seed) for seed in range(halvings)]
        for name in made[0]:
            against = [(one[name], one[_base(name)], one[BASE]) for one in made]
            figures = [
                (
                    *along(mine, base),
                    *at(mine, base, DEFAULT),
                    *along(mine, one),
                    *(net(mine, v) - net(one, v) for v in NET),
                )
                for mine, base, one in against
            ]
            found.setdefault(name, []).append(figures)
    print(f"{len(sets)} sets of {PAIRS} pairs drawn by lot, {halvings} halvings; {time.monotonic() - begun:.0f} s")
    report(found)


def drawn(every: Sequence[str], number: int) -> list[str]:
    """A set of pairs by lot."""
    order: list[int] = np.random.default_rng(1000 + number).permutation(len(every)).tolist()
    return [every[i] for i in sorted(order[:PAIRS])]


def _base(name: str) -> str:
    """The policy of the same planner that knows one rate only."""
    return name.replace("per kind", BASE) if name.startswith("simple") else BASE


def report(found: Mapping[str, Sequence[Sequence[tuple[float, ...]]]]) -> None:
    """Means over sets with their 95 % interval, and in brackets where the middle four fifths of the sets are."""
    for name, sets in found.items():
        each = 100 * _means(np.array(sets))
        cells = [_cell(column) for column in each.T]
        met = np.mean((each[:, 0] >= POINTS) | (each[:, 1] <= SHARE))
        print(f"{name}: points at equal cost, and % of the cost for the same rate")
        print(f"    along the curve {cells[0]}, {cells[1]}; at ${DEFAULT:g} {cells[2]}, {cells[3]}; "
              f"{met:.0%} of the sets have {POINTS:g} points or {SHARE:g} % along it")  # fmt: skip
        print(f"    against our own plan with one rate {cells[4]}, {cells[5]}; net value a task, in cents: "
              + ", ".join(f"${value:g} {cell}" for value, cell in zip(NET, cells[6:], strict=True)))  # fmt: skip


def _means(figures: Array) -> Array:
    """Over halvings, without those that have no value: sets × figures."""
    known = np.isfinite(figures)
    means: Array = np.where(known, figures, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return means


def _cell(each: Array) -> str:
    half = 1.96 * each.std(ddof=1) / len(each) ** 0.5 if len(each) > 1 else np.nan
    low, high = np.percentile(each, [10, 90])
    return f"{each.mean():.1f} ± {half:.1f} [{low:.0f}, {high:.0f}]"
