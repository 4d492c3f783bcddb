"""What decisions are held against: each model always, the cheapest first, a random mix, an oracle."""

from collections.abc import Callable, Sequence

import msgspec

from service.evaluation.by_kind import EquallyWeighted, KindPart, equally_weighted, parts
from service.evaluation.recorded import RecordedTask
from service.evaluation.replay import Verifier


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """One way of choosing without deciding; `cost_usd_per_task` in US dollars."""

    name: str
    solve_rate: float
    cost_usd_per_task: float
    kinds: list[KindPart] = []
    equally_weighted: EquallyWeighted | None = None


def always(tasks: Sequence[RecordedTask], model: str) -> Baseline:
    """One attempt with the same model on every task that it has an outcome of."""
    known = [task.outcomes[model] for task in tasks if model in task.outcomes]
    return Baseline(
        name=f"always:{model}",
        solve_rate=sum(attempt.solved for attempt in known) / max(1, len(known)),
        cost_usd_per_task=sum(attempt.cost_usd for attempt in known) / max(1, len(known)),
    )


def in_order(
    name: str, tasks: Sequence[RecordedTask], models: Sequence[str], *, max_attempts: int | None, verifier: Verifier
) -> Baseline:
    """The models in a fixed order, each after the one before was not accepted."""
    solved, cost = 0, 0.0
    for task in tasks:
        for model in [m for m in models if m in task.outcomes][:max_attempts]:
            attempt = task.outcomes[model]
            cost += attempt.cost_usd
            if verifier.accepts(task, model, solved=attempt.solved):
                solved += attempt.solved
                break
    return Baseline(name=name, solve_rate=solved / len(tasks), cost_usd_per_task=cost / len(tasks))


def oracle(tasks: Sequence[RecordedTask], models: Sequence[str]) -> Baseline:
    """One attempt with the cheapest model that solves the task; where none does, with the cheapest one."""
    solved, cost = 0, 0.0
    for task in tasks:
        known = [task.outcomes[model] for model in models if model in task.outcomes]
        solving = [attempt.cost_usd for attempt in known if attempt.solved]
        solved += bool(solving)
        cost += min(solving or [attempt.cost_usd for attempt in known])
    return Baseline(name="oracle", solve_rate=solved / len(tasks), cost_usd_per_task=cost / len(tasks))


def random_mix(name: str, singles: Sequence[Baseline], cost_usd: float) -> Baseline:
    """The best random mix of two single models whose mean cost is at most `cost_usd`: a point of the convex hull."""
    cheapest = min(singles, key=lambda single: single.cost_usd_per_task)
    if cost_usd <= cheapest.cost_usd_per_task:
        return msgspec.structs.replace(cheapest, name=name)
    best = Baseline(name=name, solve_rate=0.0, cost_usd_per_task=cost_usd)
    for low in (single for single in singles if single.cost_usd_per_task <= cost_usd):
        for high in singles:
            dearer = high.cost_usd_per_task - low.cost_usd_per_task
            left = cost_usd - low.cost_usd_per_task
            share = 1.0 if dearer <= 0 else min(1.0, left / dearer)
            rate = low.solve_rate + share * (high.solve_rate - low.solve_rate)
            if rate > best.solve_rate:
                spent = low.cost_usd_per_task + share * dearer
                best = Baseline(name=name, solve_rate=rate, cost_usd_per_task=min(cost_usd, spent))
    return best


def by_kind(tasks: Sequence[RecordedTask], made: Callable[[Sequence[RecordedTask]], Baseline]) -> Baseline:
    """A baseline over these tasks, and over those of each kind."""

    def of(places: Sequence[int]) -> tuple[float, float]:
        part = made([tasks[place] for place in places])
        return part.solve_rate, part.cost_usd_per_task

    kinds = parts(tasks, of)
    return msgspec.structs.replace(made(tasks), kinds=kinds, equally_weighted=equally_weighted(kinds))
