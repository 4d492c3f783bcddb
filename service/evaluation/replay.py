"""Puts recorded tasks through the real pipeline and plays the recorded outcomes back."""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from service.contract.errors import NoCandidateAvailableError, NoEligibleCandidateError
from service.contract.outcome import Outcome
from service.contract.task import Attempt, Pair, Require
from service.contract.verifier import Verifier as Told
from service.decide.pipeline import Pipeline
from service.evaluation.by_kind import EquallyWeighted, KindPart, equally_weighted, parts
from service.evaluation.recorded import Names, RecordedTask

BOOTSTRAP_ROUNDS = 2000


@dataclass(frozen=True, slots=True)
class Verifier:
    """Tells whether an attempt solved the task, and errs: shares of failures accepted and of solutions rejected.

    With `harm_usd`, what accepted wrong work costs, the plans are told of it all; without, they go by the settings.
    """

    false_accept: float = 0.0
    false_reject: float = 0.0
    seed: int = 0
    harm_usd: float | None = None

    @property
    def told(self) -> Told | None:
        """As a request tells it; rates above one half are told as that."""
        if self.harm_usd is None:
            return None
        return Told(
            false_accept=min(self.false_accept, 0.5),
            false_reject=min(self.false_reject, 0.5),
            harm_usd=self.harm_usd,
        )

    def accepts(self, task: RecordedTask, model: str, *, solved: bool) -> bool:
        """The same for the same seed, task and model, whatever else was asked before."""
        chance = random.Random(f"{self.seed}:{task.id}:{model}").random()  # noqa: S311 - a simulation, no secret
        return chance >= self.false_reject if solved else chance < self.false_accept


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What became of one task: solved in truth, or ended with accepted `wrong` work; its cost in US dollars, and which
    models were tried in which order."""

    solved: bool
    wrong: bool = False
    cost_usd: float
    models: list[str]
    seconds: list[float]
    said: list[tuple[float, bool]] = field(default_factory=list[tuple[float, bool]])
    """Of each attempt, the chance that it was given and whether it was accepted."""


class StepCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """The `n` attempts made at one step (the first is 1): their mean chance, and the share of them that solved."""

    step: int
    said: float
    seen: float
    n: int


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """One policy over all tasks; money in US dollars, shares from 0 to 1."""

    policy: str
    value_usd: float
    solve_rate: float
    cost_usd_per_task: float
    attempts_per_task: float
    solve_rate_ci95: tuple[float, float]
    wrong_rate: float
    first_choice: dict[str, float]
    calibration: list[StepCalibration]
    latency_ms: dict[str, float]
    kinds: list[KindPart] = []
    equally_weighted: EquallyWeighted | None = None

    @property
    def name(self) -> str:
        """How it is called in a picture."""
        return f"{self.policy} at ${self.value_usd:g}"


Report = Callable[[Outcome], Awaitable[object]]
"""Is told what became of each attempt, by the id of its decision and nothing else, as a scheduler would tell it."""


async def play(
    pipeline: Pipeline,
    task: RecordedTask,
    *,
    names: Names | None = None,
    value_usd: float,
    max_attempts: int | None,
    verifier: Verifier,
    report: Report | None = None,
) -> Played:
    """Asks, plays the chosen model's outcome back, and asks again with `attempts` after each failure.

    Ends when an attempt is accepted, another is not worthwhile, no candidate is left, or `max_attempts` were made
    (None: no limit); the first attempt is always made.
    """
    names = names or Names([task], pipeline.knowledge.catalog)
    request = names.request(task, value_usd=value_usd, verifier=verifier.told)
    attempts: list[Attempt] = []
    tried: list[str] = []
    cost, solved, wrong = 0.0, False, False
    seconds, said = list[float](), list[tuple[float, bool]]()
    while max_attempts is None or len(attempts) < max_attempts:
        started = time.perf_counter()
        try:
            # Each pair was recorded once, so that a second try of it cannot be played back.
            again = [Pair(agent_type=a.agent_type, model=a.model, effort=a.effort) for a in attempts]
            require = Require(exclude=[*request.require.exclude, *again])
            decision = await pipeline.decide(msgspec.structs.replace(request, require=require, attempts=attempts))
        except (NoEligibleCandidateError, NoCandidateAvailableError):
            break
        seconds.append(time.perf_counter() - started)
        if attempts and not decision.worthwhile:
            break
        name = names.of[decision.key]
        outcome = task.outcomes[name]
        cost += outcome.cost_usd
        attempts.append(
            Attempt(agent_type=decision.agent_type, model=decision.model, effort=decision.effort, result="failed")
        )
        tried.append(name)
        accepted = verifier.accepts(task, name, solved=outcome.solved)
        said.append((decision.p_solve, accepted))
        if report is not None:
            await report(Outcome(decision_id=decision.decision_id, solved=accepted, cost_usd=outcome.cost_usd))
        if accepted:
            solved, wrong = outcome.solved, not outcome.solved
            break
    return Played(solved=solved, wrong=wrong, cost_usd=cost, models=tried, seconds=seconds, said=said)


def calibration(played: Sequence[Played]) -> list[StepCalibration]:
    """What was said of the attempts at each step, beside what was seen."""
    steps: list[StepCalibration] = []
    for number in range(max((len(one.said) for one in played), default=0)):
        made = [one.said[number] for one in played if len(one.said) > number]
        steps.append(
            StepCalibration(
                step=number + 1,
                said=sum(p for p, _ in made) / len(made),
                seen=sum(accepted for _, accepted in made) / len(made),
                n=len(made),
            )
        )
    return steps


def summarise(
    policy: str, value_usd: float, played: Sequence[Played], *, seed: int, tasks: Sequence[RecordedTask] = ()
) -> PolicyResult:
    """Rates, costs, and a 95 % bootstrap interval of the solve rate over tasks (percentiles; Efron 1979). `tasks` are
    those that were played, where they are to be told apart by kind."""
    kinds = parts(tasks, lambda places: _of([played[place] for place in places]))
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
        wrong_rate=sum(one.wrong for one in played) / len(played),
        first_choice={model: count / len(played) for model, count in first.most_common()},
        calibration=calibration(played),
        latency_ms={"p50": round(float(p50), 3), "p99": round(float(p99), 3)},
        kinds=kinds,
        equally_weighted=equally_weighted(kinds),
    )


def _of(played: Sequence[Played]) -> tuple[float, float]:
    return sum(one.solved for one in played) / len(played), sum(one.cost_usd for one in played) / len(played)
