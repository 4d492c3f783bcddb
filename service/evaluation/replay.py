"""Puts recorded tasks through the real pipeline and plays the recorded outcomes back."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from service.contract.errors import NoCandidateAvailableError, NoEligibleCandidateError
from service.contract.task import Attempt, Pair, Require, Task
from service.decide.pipeline import Pipeline
from service.evaluation.recorded import RecordedTask

BOOTSTRAP_ROUNDS = 2000


@dataclass(frozen=True, slots=True)
class Verifier:
    """Tells whether an attempt solved the task, and errs: shares of failures accepted and of solutions rejected."""

    false_accept: float = 0.0
    false_reject: float = 0.0
    seed: int = 0

    def accepts(self, task: RecordedTask, model: str, *, solved: bool) -> bool:
        """The same for the same seed, task and model, whatever else was asked before."""
        chance = random.Random(f"{self.seed}:{task.id}:{model}").random()  # noqa: S311 - a simulation, no secret
        return chance >= self.false_reject if solved else chance < self.false_accept


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What became of one task: solved in truth, its cost in US dollars, and which models were tried in which order."""

    solved: bool
    cost_usd: float
    models: list[str]
    seconds: list[float]


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """One policy over all tasks; money in US dollars, shares from 0 to 1."""

    policy: str
    value_usd: float
    solve_rate: float
    cost_usd_per_task: float
    attempts_per_task: float
    solve_rate_ci95: tuple[float, float]
    first_choice: dict[str, float]
    latency_ms: dict[str, float]

    @property
    def name(self) -> str:
        """How it is called in a picture."""
        return f"{self.policy} at ${self.value_usd:g}"


async def play(
    pipeline: Pipeline, task: RecordedTask, *, value_usd: float, max_attempts: int | None, verifier: Verifier
) -> Played:
    """Asks, plays the chosen model's outcome back, and asks again with `attempts` after each failure.

    Ends when an attempt is accepted, another is not worthwhile, no candidate is left, or `max_attempts` were made
    (None: no limit); the first attempt is always made.
    """
    missing = [
        Pair(agent_type=c.agent_type, model=c.model)
        for c in pipeline.knowledge.catalog.candidates
        if c.model not in task.outcomes
    ]
    request = Task(
        name=task.name,
        instructions=task.instructions,
        labels=task.labels,
        require=Require(exclude=missing),
        value_usd=value_usd,
    )
    attempts: list[Attempt] = []
    cost, solved, seconds = 0.0, False, list[float]()
    while max_attempts is None or len(attempts) < max_attempts:
        started = time.perf_counter()
        try:
            decision = await pipeline.decide(msgspec.structs.replace(request, attempts=attempts))
        except (NoEligibleCandidateError, NoCandidateAvailableError):
            break
        seconds.append(time.perf_counter() - started)
        if attempts and not decision.worthwhile:
            break
        outcome = task.outcomes[decision.model]
        cost += outcome.cost_usd
        attempts.append(Attempt(agent_type=decision.agent_type, model=decision.model, result="failed"))
        if verifier.accepts(task, decision.model, solved=outcome.solved):
            solved = outcome.solved
            break
    return Played(solved=solved, cost_usd=cost, models=[attempt.model for attempt in attempts], seconds=seconds)


def summarise(policy: str, value_usd: float, played: Sequence[Played], *, seed: int) -> PolicyResult:
    """Rates, costs, and a 95 % bootstrap interval of the solve rate over tasks (percentiles; Efron 1979)."""
    solved = np.array([one.solved for one in played], dtype=np.float64)
    rounds = np.random.default_rng(seed).integers(0, len(solved), size=(BOOTSTRAP_ROUNDS, len(solved)))
    low, high = np.percentile(solved[rounds].mean(axis=1), [2.5, 97.5])
    first = Counter(one.models[0] for one in played if one.models)
    milliseconds = np.array([s for one in played for s in one.seconds]) * 1000
    p50, p99 = np.percentile(milliseconds, [50, 99]) if len(milliseconds) else (0.0, 0.0)
    return PolicyResult(
        policy=policy,
        value_usd=value_usd,
        solve_rate=float(solved.mean()),
        cost_usd_per_task=sum(one.cost_usd for one in played) / len(played),
        attempts_per_task=sum(len(one.models) for one in played) / len(played),
        solve_rate_ci95=(float(low), float(high)),
        first_choice={model: count / len(played) for model, count in first.most_common()},
        latency_ms={"p50": round(float(p50), 3), "p99": round(float(p99), 3)},
    )
