"""What forgetting costs in a world that does not change, and how soon a leader that fell is found out.

    OPENBLAS_NUM_THREADS=1 python -m tests.load.forgetting [--seeds N] [--tasks N] [--half-lives H …]

Rasch worlds of five candidates, two of whose published rates are off: drawn anew for each seed where nothing changes,
and the same where the leader falls from 0.9 to 0.05 and the next best solves 0.72 or 0.6. Tasks are decided by the
real forecast and plan, attempts are made until one solves the task or the plan ends, and every attempt is learned by
the real code, a few tasks later. The worth of a plan is its exact expectation under the true abilities, so that only
what was learned is random.
The baseline forgets nothing; differences are taken seed by seed.
"""

import argparse
from dataclasses import dataclass
from math import inf

import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.contract.task import Attempt
from service.forecast.ability import learn
from service.forecast.difficulty import Array, Shape, ability, chances, cost_factor, density
from service.forecast.forecaster import Forecaster
from service.forecast.history import History, OutcomeRow
from service.forecast.stakes import Stakes

PUBLISHED: tuple[float, ...] = (0.90, 0.70, 0.75, 0.60, 0.45)
TRUE: tuple[float, ...] = (0.90, 0.70, 0.60, 0.72, 0.45)
COST_USD: tuple[float, ...] = (0.30, 0.28, 0.40, 0.25, 0.22)
LEADER = 0
FALLEN = 0.05
VALUE_USD = 3.0
EVERY = 10
"""Tasks between two rounds of learning."""


@dataclass(slots=True)
class World:
    """Candidates as they are, and what has been learned of them so far."""

    catalog: Catalog
    truth: Array
    cost_usd: Array
    shape: Shape
    history: History
    forecaster: Forecaster
    rng: np.random.Generator

    @classmethod
    def new(cls, seed: int, half_life: float, *, drawn: bool = False, most: float = 1.0) -> "World":
        """Before any task; `drawn` at random, or the one of which TRUE tells, where all but the leader solve at `most`
        so much."""
        rng = np.random.default_rng(seed)
        shape = Shape(2.75, 0.01)
        true, published, cost_usd = np.array(TRUE), np.array(PUBLISHED), np.array(COST_USD)
        true[1:], published[1:] = np.minimum(true[1:], most), np.minimum(published[1:], most)
        if drawn:
            shape = Shape(float(rng.uniform(2, 3.5)), 0.01)
            true = np.sort(rng.uniform(0.35, 0.9, len(TRUE)))
            published = true.copy()
            published[rng.permutation(len(TRUE))[:2]] += rng.choice([-0.15, 0.15], 2)
            published = np.clip(published, 0.05, 0.95)
            cost_usd = np.exp(np.log(0.03) + 3 * (true - 0.35) / 0.55 + rng.normal(0, 0.5, len(TRUE)))
        catalog = Catalog(
            Candidate(agent_type="any", model=f"m{i}", solve_rate=rate, cost_usd=cost)
            for i, (rate, cost) in enumerate(zip(published.tolist(), cost_usd.tolist(), strict=True))
        )
        history = History(half_life=half_life)
        return cls(catalog, ability(true, shape), cost_usd, shape, history, Forecaster(catalog), rng)

    def fall(self) -> None:
        """The leader solves next to nothing from now on."""
        self.truth[LEADER] = ability(np.array([FALLEN]), self.shape)[0]

    def difficulty(self) -> float:
        """Of the next task."""
        hopeless = self.rng.random() < self.shape.unsolvable
        return 100.0 if hopeless else float(self.rng.normal(0, self.shape.sigma))

    def play(self, number: int) -> list[OutcomeRow]:
        """One task, as a scheduler goes through it: asked again after each failure."""
        difficulty = self.difficulty()
        attempts: list[Attempt] = []
        rows: list[OutcomeRow] = []
        while True:
            left = [c for c in self.catalog.candidates if all(c.model != a.model for a in attempts)]
            if not left:
                return rows
            plan = self.forecaster.forecast(
                left, labels={}, minutes=None, minutes_source="text", attempts=attempts
            ).plan(Stakes(value_usd=VALUE_USD))
            if attempts and not plan.worthwhile:
                return rows
            chosen = plan.steps[0]
            c = [one.model for one in self.catalog.candidates].index(chosen.model)
            solved = bool(self.rng.random() < 1 / (1 + np.exp(difficulty - self.truth[c])))
            cost = float(self.cost_usd[c]) * float(self.rng.lognormal(-0.125, 0.5))
            rows.append(
                OutcomeRow(
                    agent_type="any",
                    model=chosen.model,
                    solved=solved,
                    cost_usd=cost,
                    task=f"t{number}",
                    failed=tuple((a.agent_type, a.model) for a in attempts),
                )
            )
            if solved:
                return rows
            attempts.append(Attempt(agent_type="any", model=chosen.model, result="failed"))

    def learn(self) -> None:
        """Learns from everything on record, from what it knew before on."""
        self.forecaster = Forecaster(self.catalog, learn(self.catalog, self.history, start=self.forecaster.learned))

    def first(self) -> int:
        """Who is tried first on a fresh task."""
        return self.catalog.candidates.index(self.plan_of(self.forecaster)[0])

    def plan_of(self, forecaster: Forecaster) -> list[Candidate]:
        """The plan of a fresh task."""
        forecast = forecaster.forecast(
            self.catalog.candidates, labels={}, minutes=None, minutes_source="text", attempts=()
        )
        return [
            one
            for step in forecast.plan(Stakes(value_usd=VALUE_USD)).steps
            for one in self.catalog.candidates
            if one.model == step.model
        ]

    def worth(self, order: list[int]) -> float:
        """Of going through these candidates, under the true abilities."""
        left, total = density(0.0, self.shape), 0.0
        chance = chances(self.truth)
        factor = cost_factor(0.0, self.shape)
        for c in order:
            total += float(left @ (VALUE_USD * chance[c] - self.cost_usd[c] * factor))
            left = left * (1 - chance[c])
        return total

    def best(self) -> float:
        """The worth of the plan of one who knows the truth."""
        return max(self.worth(order) for order in _orders(len(self.truth)))


def _orders(n: int, most: int = 5) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for length in range(1, most + 1):
        found += [[*order, c] for order in found if len(order) == length - 1 for c in range(n) if c not in order]
    return found


def steady(seed: int, half_life: float, tasks: int) -> float:
    """Mean worth of the plan of a fresh task over the second half, as a share of what the truth would give."""
    world = World.new(seed, half_life, drawn=True)
    most, shares = world.best(), list[float]()
    for number in range(tasks):
        for row in world.play(number):
            world.history.put(row)
        if number % EVERY == EVERY - 1:
            world.learn()
            if number >= tasks // 2:
                order = [world.catalog.candidates.index(one) for one in world.plan_of(world.forecaster)]
                shares.append(world.worth(order) / most)
    return float(np.mean(shares))


def found_out(seed: int, half_life: float, second: float, before: int = 3000, patience: int = 600) -> int | None:
    """Outcomes of the fallen leader until it is not tried first any more, after so many of when it solved 0.9; None
    where it was not tried first before its fall either, because another is nearly as good.

    None of the others solves more than `second`.
    """
    world = World.new(seed, half_life, most=second)
    number = count = 0
    while count < before:
        rows = world.play(number)
        count += sum(row.model == f"m{LEADER}" for row in rows)
        for row in rows:
            world.history.put(row)
        number += 1
        if number % 100 == 0:
            world.learn()
    world.learn()
    if world.first() != LEADER:
        return None
    world.fall()
    count = 0
    while count < patience:
        rows = world.play(number)
        number += 1
        count += sum(row.model == f"m{LEADER}" for row in rows)
        for row in rows:
            world.history.put(row)
        if number % EVERY == 0:
            world.learn()
            if world.first() != LEADER:
                break
    return count


def interval(values: list[float]) -> str:
    """Mean and its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).choice(np.array(values), (2000, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{np.mean(values):+.4f} ({low:+.4f} to {high:+.4f})"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--half-lives", type=float, nargs="*", default=[100.0, 150.0, 250.0, 350.0, 500.0, 1000.0])
    options = parser.parse_args()
    base = [steady(seed, inf, options.tasks) for seed in range(options.seeds)]
    print(f"forgetting nothing: worth {np.mean(base):.4f} of what the truth gives")
    for half_life in [*options.half_lives, inf]:
        told = f"half-life {half_life:6.0f}:"
        if half_life < inf:
            shares = [steady(seed, half_life, options.tasks) for seed in range(options.seeds)]
            told += f" loss by forgetting {interval([a - b for a, b in zip(base, shares, strict=True)])}"
        for second in (0.72, 0.6):
            found = [found_out(seed, half_life, second) for seed in range(min(options.seeds, 5))]
            fell = sorted(count for count in found if count is not None)
            told += f"  until not first, second best {second}: {fell}"
        print(told, flush=True)


if __name__ == "__main__":
    main()
