"""What a plan is worth: solve rate against cost on recorded tasks, in cross-validation.

    python -m tests.load.cost_quality

Needs the recorded tasks, see tests/support/recorded_tasks.py. Every task goes through the real pipeline and the real
store, with no classifier configured. Prints one table for each question, and one JSON line with all figures. Outcomes
and costs: SWE-bench Verified, bash-only leaderboard. The recorded verifier is perfect; the last table is not.
"""

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from typing import Any

from service.commands.outcomes import record
from service.contract.catalog import Catalog
from service.contract.settings import CliSettings, DecisionSettings, Settings, StoreSettings
from service.core import Core
from service.evaluation.baselines import Baseline, always, in_order, oracle
from service.evaluation.recorded import RecordedTask, history_of, read_tasks
from service.evaluation.replay import Played, Verifier, play, summarise
from service.logs.lines import configure_logging
from tests.support.recorded_tasks import Recorded, data_directory, folds

FOLDS = 5
VALUES = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 40.0)
OBJECTIVES = (1.5, 3.0, 15.0)
"""The values of `economy`, `balanced` and `quality`."""
TWO_STEPS = ("gpt-5-mini", "claude-opus-4-5")
"""An order as a person would choose it by hand: a cheap model that is known to be good, then the strongest."""


async def play_fold(
    catalog: Catalog,
    training: list[RecordedTask],
    test: list[RecordedTask],
    value_usd: float,
    *,
    outcomes: int | None,
    verifier: Verifier,
    seed: int = 0,
) -> list[Played]:
    """One fold through the real pipeline, after learning from so many outcomes of the others (None: all)."""
    settings = Settings(
        store=StoreSettings(url="sqlite://"), cli=CliSettings(preset=""), decision=DecisionSettings(cache_seconds=0.0)
    )
    core = Core(settings, environ={})
    try:
        core.use_catalog(catalog)
        await core.store.start()
        history = history_of(training, catalog)
        random.Random(seed).shuffle(history)
        history = history if outcomes is None else history[:outcomes]
        await record(core, history)
        await core.learner.catch_up()
        return [
            await play(core.pipeline, task, value_usd=value_usd, max_attempts=None, verifier=verifier) for task in test
        ]
    finally:
        await core.aclose()


async def curve(
    catalog: Catalog,
    tasks: Sequence[RecordedTask],
    *,
    values: Sequence[float] = VALUES,
    outcomes: int | None = None,
    verifier: Verifier | None = None,
    seed: int = 0,
) -> list[Baseline]:
    """Solve rate and cost at each value, all folds together."""
    points: list[Baseline] = []
    for value in values:
        played: list[Played] = []
        for training, test in folds(len(tasks), FOLDS, seed=0):
            played += await play_fold(
                catalog,
                [tasks[t] for t in training],
                [tasks[t] for t in test],
                value,
                outcomes=outcomes,
                verifier=verifier or Verifier(),
                seed=seed,
            )
        result = summarise("plan", value, played, seed=0)
        points.append(
            Baseline(
                name=f"plan at ${value:g}", solve_rate=result.solve_rate, cost_usd_per_task=result.cost_usd_per_task
            )
        )
    return points


def cheapest_reaching(points: Sequence[Baseline], solve_rate: float) -> Baseline | None:
    """The cheapest point that solves at least so many."""
    reaching = [point for point in points if point.solve_rate >= solve_rate]
    return min(reaching, key=lambda point: point.cost_usd_per_task, default=None)


def best_within(points: Sequence[Baseline], cost_usd: float) -> Baseline:
    """The point that solves most at no more than this cost."""
    return max((p for p in points if p.cost_usd_per_task <= cost_usd), key=lambda point: point.solve_rate)


def show(title: str, points: Sequence[Baseline]) -> None:
    """One table."""
    print(f"\n{title}")
    for point in points:
        print(f"  {point.name:<44} {point.solve_rate:6.1%}  ${point.cost_usd_per_task:.4f}")


async def main() -> None:
    """Answers each question in turn."""
    directory = data_directory()
    if directory is None:
        sys.exit("the recorded tasks are not here; name their directory with POINTSMAN_DATA")
    configure_logging("error")
    tasks = read_tasks(directory / "swebench_dev.jsonl")
    recorded = Recorded.load(directory)
    catalog = recorded.catalog(directory)
    singles = [always(tasks, candidate.model) for candidate in catalog.candidates]
    best = max(singles, key=lambda single: single.solve_rate)
    by_hand = in_order("by hand: " + ", then ".join(TWO_STEPS), tasks, TWO_STEPS, max_attempts=2, verifier=Verifier())
    figures: dict[str, Any] = {"tasks": len(tasks), "best_single": [best.name, best.solve_rate, best.cost_usd_per_task]}

    learned = await curve(catalog, tasks)
    show(f"{FOLDS}-fold cross-validation, {len(tasks)} tasks", learned)
    show("each model always, an order by hand, an oracle", [*singles, by_hand, oracle(tasks, recorded.models)])
    priors = await curve(catalog, tasks, outcomes=0)
    show("the same before any outcome, from published rates alone", priors)
    for name, points in (("learned", learned), ("priors", priors)):
        same, more = cheapest_reaching(points, best.solve_rate), best_within(points, best.cost_usd_per_task)
        share = same.cost_usd_per_task / best.cost_usd_per_task if same else None
        points_more = 100 * (more.solve_rate - best.solve_rate)
        figures[name] = {"cost_share_at_equal_rate": share, "points_more_at_equal_cost": round(points_more, 2)}
        shown = "never" if share is None else f"for {share:.1%} of its cost"
        print(f"\n{name}: the rate of {best.name} {shown}; at no more than its cost {points_more:+.1f} points")

    figures["learning"] = {}
    steps: list[Baseline] = []
    for count in (0, 10, 30, 100, None):
        runs = [(await curve(catalog, tasks, values=OBJECTIVES[:1], outcomes=count, seed=seed))[0] for seed in range(3)]
        rate = sum(run.solve_rate for run in runs) / len(runs)
        cost = sum(run.cost_usd_per_task for run in runs) / len(runs)
        shown = "all outcomes" if count is None else f"{count} outcomes"
        steps.append(Baseline(name=shown, solve_rate=rate, cost_usd_per_task=cost))
        figures["learning"][shown] = [rate, cost]
    show(f"learning, at a value of ${OBJECTIVES[0]:g} (mean of three draws)", steps)

    cheapest = [single.name.removeprefix("always:") for single in sorted(singles, key=lambda s: s.cost_usd_per_task)]
    without = recorded.catalog(directory, without=cheapest[:2])
    fewer = await curve(without, tasks)
    show(f"without the two cheapest models ({', '.join(cheapest[:2])})", fewer)
    same = cheapest_reaching(fewer, best.solve_rate)
    figures["without_two_cheapest"] = same.cost_usd_per_task / best.cost_usd_per_task if same else None

    figures["verifier"] = {}
    for wrong in (0.0, 0.1, 0.2):
        fooled = await curve(catalog, tasks, values=OBJECTIVES, verifier=Verifier(false_accept=wrong))
        show(f"a verifier that lets {wrong:.0%} of failures pass", fooled)
        figures["verifier"][f"{wrong:g}"] = [[p.name, p.solve_rate, p.cost_usd_per_task] for p in fooled]
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
