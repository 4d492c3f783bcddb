"""What kinds of work are worth, on recorded tasks of five kinds, in cross-validation.

    python -m tests.load.kinds_quality [--sets] [--lots SETS] [--meaningless] [--seeds N] [--first N]

Each half of the tasks of a kind is decided by what the other half says: one rate and cost for all kinds, a rate and a
cost for each kind, or one for all and what 10, 20, 40 tasks a kind teach. A decision is the forecast's plan; its first
step is played, and after a failure it is asked again. Kinds count equally. Printed for each value of a solved task:
rate and cost, the points gained at the cost of one rate (half the range over halvings), and the share of the cost for
which its rate is reached. `--sets` takes three sets of pairs. `--lots` takes sets of ten pairs by lot and whole curves
(kinds_lots.py), `--meaningless` takes labels without meaning for kinds, which must cost nothing (kinds_meaningless.py).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from service.forecast.ability import learn
from service.forecast.forecaster import Forecaster
from tests.load import kinds_lots, kinds_meaningless
from tests.load.kinds_known import LEARNED_TASKS, catalog, halved, outcomes, sample
from tests.load.kinds_lots import Planned
from tests.support.recorded_tasks import Array, data_directory, read_lines

VALUES = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 25.0, 60.0)
SHOWN = (1.0, 3.0, 15.0)
"""Dollars that a solved task is worth: those of the three objectives are compared."""

LEFT_OUT = ("greenfield",)
"""Eight tasks: four in each half tell nothing."""

SETS = {
    "ten": (
        "acp-claude/claude-opus-4-7",
        "acp-gemini/Gemini-3.1-Pro",
        "openhands/claude-opus-4-8",
        "openhands/claude-sonnet-4-5",
        "openhands/GPT-5.4",
        "openhands/GPT-5.2",
        "openhands/Gemini-3-Flash",
        "openhands/DeepSeek-V4-Pro",
        "openhands/MiniMax-M3",
        "openhands/Kimi-K2.6",
    ),
    "shipped": (
        "openhands/claude-opus-4-8",
        "acp-claude/claude-opus-4-7",
        "acp-claude/claude-opus-4-6",
        "acp-claude/claude-sonnet-4-5",
        "openhands/GPT-5.5",
        "openhands/GPT-5.4",
        "acp-gemini/Gemini-3.1-Pro",
        "openhands/Gemini-3.5-Flash",
        "acp-gemini/Gemini-3-Flash",
    ),
    "open weights": (
        "openhands/DeepSeek-V3.2-Reasoner",
        "openhands/DeepSeek-V4-Pro",
        "openhands/GLM-5.1",
        "openhands/Kimi-K2.6",
        "openhands/Kimi-K2.5",
        "openhands/MiniMax-M2.7",
        "openhands/MiniMax-M3",
        "openhands/Qwen3.6-Plus",
        "openhands/Qwen3-Coder-Next",
        "openhands/GLM-4.7",
    ),
}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """Solve rate and cost of each kind, in the order of the kinds."""

    solved: Array
    cost: Array

    def mean(self) -> tuple[float, float]:
        """With the kinds weighted equally."""
        return float(self.solved.mean()), float(self.cost.mean())


def main() -> None:
    """Prints a table for each set of pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_directory())
    parser.add_argument("--sets", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--meaningless", action="store_true")
    parser.add_argument("--lots", type=int, default=0, metavar="SETS")
    parser.add_argument("--first", type=int, default=0, help="the first draw")
    options = parser.parse_args()
    if options.meaningless:
        kinds_meaningless.measure(options.data, range(options.first, options.first + options.seeds))
        return
    rows = [row for row in read_lines(options.data / "openhands_dev.jsonl") if row["labels"]["kind"] not in LEFT_OUT]
    kinds = tuple(dict.fromkeys(row["labels"]["kind"] for row in rows))
    if options.lots:
        kinds_lots.run(rows, kinds, range(options.first, options.first + options.lots), options.seeds)
        return
    for name, pairs in SETS.items() if options.sets else [("ten", SETS["ten"])]:
        report(name, rows, pairs, kinds, options.seeds)


def report(name: str, rows: Sequence[Row], pairs: Sequence[str], kinds: Sequence[str], seeds: int) -> None:
    """One set of pairs: its policies, held against one rate for all kinds; single pairs and the oracle."""
    told = [row for row in rows if any(pair in row["outcomes"] for pair in pairs)]
    print(f"\n== {name}: {len(pairs)} pairs, {len(told)} tasks, kinds weighted equally, {seeds} halvings")
    curves: dict[str, list[list[Point]]] = {}
    for seed in range(seeds):
        halves = halved(told, kinds, seed)
        for policy, points in policies(halves, pairs, kinds, seed).items():
            curves.setdefault(policy, []).append(points)
    base = [points_of(run) for run in curves["one rate"]]
    for policy, runs in curves.items():
        cells: list[str] = []
        for value in SHOWN:
            at = VALUES.index(value)
            rate, cost = np.mean([run[at].mean() for run in runs], axis=0)
            against = [compared(points_of(run), one[at]) for run, one in zip(runs, base, strict=True)]
            gain, share = np.mean(against, axis=0)
            spread = max(one for one, _ in against) - min(one for one, _ in against)
            cells.append(f"${value:g}: {rate:.1%} ${cost:.2f}, {100 * gain:+.1f} (±{50 * spread:.1f}), {share:.0%}")
        print(f"{policy:24} " + " | ".join(cells))
    for policy in ("one rate", "rate per kind", "learned from 40 a kind"):
        run = [runs[VALUES.index(3.0)] for runs in curves[policy]]
        solved, cost = np.mean([p.solved for p in run], axis=0), np.mean([p.cost for p in run], axis=0)
        shown = "  ".join(f"{k} {s:.0%} ${c:.2f}" for k, s, c in zip(kinds, solved, cost, strict=True))
        print(f"   {policy} at $3: {shown}")
    for pair in pairs:
        point = single(told, kinds, partial(_of_pair, pair=pair))
        print(f"   always {pair:32} {point.mean()[0]:.1%} ${point.mean()[1]:.2f}")
    best = single(told, kinds, lambda outcomes: _cheapest([outcomes[pair] for pair in pairs if pair in outcomes]))
    print(f"   oracle {'':32} {best.mean()[0]:.1%} ${best.mean()[1]:.2f}")


def policies(
    halves: tuple[list[Row], list[Row]], pairs: Sequence[str], kinds: Sequence[str], seed: int
) -> dict[str, list[Point]]:
    """For each policy its points, one for each of VALUES, over both halves."""
    made: dict[str, list[list[Point]]] = {}
    for test, known in (halves, halves[::-1]):
        one, each = catalog(known, pairs, kinds, each=False), catalog(known, pairs, kinds, each=True)
        forecasters = {"one rate": Forecaster(one), "rate per kind": Forecaster(each)}
        for number in LEARNED_TASKS:
            taught = sample(known, kinds, number, seed)
            forecasters[f"learned from {number} a kind"] = Forecaster(one, learn(one, outcomes(taught, pairs)))
            forecasters[f"both, {number} a kind"] = Forecaster(each, learn(each, outcomes(taught, pairs)))
        for policy, forecaster in forecasters.items():
            planned = Planned(forecaster, kinds)
            made.setdefault(policy, []).append([play(planned, test, pairs, kinds, value) for value in VALUES])
    return {policy: [_joined(two) for two in zip(*runs, strict=True)] for policy, runs in made.items()}


def play(policy: Planned, rows: Sequence[Row], pairs: Sequence[str], kinds: Sequence[str], value: float) -> Point:
    """Every task decided, and decided again after each failure, until nothing more is worthwhile."""
    solved, cost, number = (np.zeros(len(kinds)) for _ in range(3))
    for row in rows:
        k = kinds.index(row["labels"]["kind"])
        failed: tuple[int, ...] = ()
        left: tuple[int, ...] = tuple(c for c, pair in enumerate(pairs) if pair in row["outcomes"])
        number[k] += 1
        while left and (one := policy.next(k, left, failed, value)) is not None:
            outcome = row["outcomes"][pairs[one]]
            cost[k] += outcome["cost_usd"]
            if outcome["solved"]:
                solved[k] += 1
                break
            left, failed = tuple(c for c in left if c != one), (*failed, one)
    return Point(solved / number, cost / number)


def single(rows: Sequence[Row], kinds: Sequence[str], chosen: Callable[[Row], Row | None]) -> Point:
    """One attempt at each task."""
    made = [
        [one for row in rows if row["labels"]["kind"] == kind and (one := chosen(row["outcomes"])) is not None]
        for kind in kinds
    ]
    return Point(
        np.array([sum(one["solved"] for one in own) / len(own) for own in made], dtype=np.float64),
        np.array([sum(one["cost_usd"] for one in own) / len(own) for own in made], dtype=np.float64),
    )


def points_of(run: Sequence[Point]) -> Array:
    """(solve rate, cost) of each value, with the kinds weighted equally."""
    return np.array([point.mean() for point in run])


def compared(mine: Array, one: Array) -> tuple[float, float]:
    """By how much more is solved at the cost of `one`, and for which share of that cost its rate is reached."""
    best, logs = np.maximum.accumulate(mine[:, 0]), np.log(mine[:, 1])
    rate, cost = float(one[0]), float(one[1])
    gain = float(np.interp(log(cost), logs, best)) - rate
    return gain, exp(float(np.interp(rate, best, logs))) / cost


def _joined(points: Sequence[Point]) -> Point:
    return Point(np.mean([p.solved for p in points], axis=0), np.mean([p.cost for p in points], axis=0))


def _of_pair(outcomes: Row, pair: str) -> Row | None:
    return outcomes.get(pair)


def _cheapest(outcomes: Sequence[Row]) -> Row:
    solving = [one for one in outcomes if one["solved"]] or list(outcomes)
    return min(solving, key=lambda one: one["cost_usd"])


if __name__ == "__main__":
    main()
