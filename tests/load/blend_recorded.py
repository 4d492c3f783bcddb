"""Does a classifier earn its keep on recorded tasks? First choices by it, by the forecast alone, and by both.

    OPENBLAS_NUM_THREADS=1 python -m tests.load.blend_recorded [--short] [--rounds SEEDS] [--jobs N]
        [--sets NAME …] [--values USD …] [--says CLASSIFIER …] [--plan]

Needs the recorded tasks, see tests/support/recorded_tasks.py. They come once each, in random order, through the real
pipeline, store and learning; a failed one is asked again with its `attempts` until its plan ends. Every attempt's
recorded outcome is reported by its decision_id alone, and learned from every LEARN_EVERY tasks. Classifiers are
simulated on the recorded outcomes (recorded_sayings.py). Net value: what solved tasks are worth less what attempts
cost, per task of the latter half, which 150 to 500 outcomes were learned before. With `--plan` nobody asks again: the
first plan is gone through instead.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service.classifiers.breaker import Breaker
from service.classifiers.classifier import Brief, Classified
from service.classifiers.ladder import Ladder, Stage
from service.contract.outcome import Outcome
from service.contract.settings import CliSettings, DecisionSettings, Settings, StoreSettings
from service.core import Core
from service.evaluation.recorded import Names
from service.evaluation.replay import Verifier, play
from service.forecast.leaning import FIRST_WEIGHT
from service.logs.lines import configure_logging
from tests.load.leads import LIMIT, Lead, Numbers, Policy
from tests.load.plan_followed import follow
from tests.load.recorded_sayings import SAYS, Saying
from tests.load.recorded_sets import SETS, recorded_set
from tests.load.support import Report, arguments, parsed
from tests.support.recorded_tasks import data_directory
from tests.support.scripted_classifier import ScriptedClassifier

VALUES = (1.0, 3.0, 15.0)
LEARN_EVERY = 20
SHORT = ("right 30 %", "wrong")
"""The classifiers of the short form."""


@dataclass(frozen=True, slots=True)
class Run:
    """One policy through all tasks in one order: the net value of each, the share of first choices in the latter half
    that are the classifier's, and the weight that was learned."""

    order: list[int]
    net: Numbers
    followed: float
    weight: float

    @property
    def half(self) -> int:
        """Where the latter half begins."""
        return len(self.order) // 2


class Job(NamedTuple):
    """One run: the set's name, the policy, what the classifier says, and whether the first plan is gone through."""

    name: str
    policy: Policy
    says: str
    value_usd: float
    seed: int
    plan: bool = False


def played(job: Job) -> Run:
    """In a process of its own."""
    configure_logging("error")
    return asyncio.run(_played(job))


async def _played(job: Job) -> Run:
    recorded = recorded_set(job.name, _directory())
    decision = DecisionSettings(cache_seconds=0.0, first_choice=job.policy)
    core = Core(
        Settings(store=StoreSettings(url="sqlite://"), cli=CliSettings(preset=""), decision=decision), environ={}
    )
    saying = Saying(recorded, job.says, job.seed)

    async def act(brief: Brief, _seconds: float) -> Classified:
        try:
            return saying.of(brief)
        except Exception as error:  # the ladder would only go on without it
            defects.append(error)
            raise

    async def report(outcome: Outcome) -> None:
        unreported.append(outcome)

    order: list[int] = np.random.default_rng(job.seed).permutation(len(recorded.tasks)).tolist()
    unreported, defects = list[Outcome](), list[Exception]()
    names, net, named = Names(recorded.tasks, recorded.catalog), list[float](), list[bool]()
    try:
        core.pipeline.observers = (core.contexts.remember,)  # nobody reads the log here, and it is half of the time
        core.use_catalog(recorded.catalog)
        await core.store.start()
        if job.policy != "forecast":
            core.pipeline.classifiers.ladder = Ladder([Stage(ScriptedClassifier(act), Breaker(time.monotonic))])
        for number, place in enumerate(order):
            if number % LEARN_EVERY == 0:
                await core.outcomes.record(unreported)
                unreported.clear()
                await core.learner.catch_up()
                await core.weights.catch_up()
            task = recorded.tasks[place]
            if job.plan:
                one = await follow(core.pipeline, task, names=names, value_usd=job.value_usd, report=report)
            else:
                one = await play(
                    core.pipeline,
                    task,
                    names=names,
                    value_usd=job.value_usd,
                    max_attempts=None,
                    verifier=Verifier(),
                    report=report,
                )
            net.append(job.value_usd * one.solved - one.cost_usd)
            named.append(saying.first.get(task.id) == one.models[0])
        weight = next((found.weight for found in core.in_use.weights.values()), FIRST_WEIGHT)
    finally:
        await core.aclose()
    if defects:
        raise defects[0]
    late = named[len(named) // 2 :]
    return Run(order, np.array(net), sum(late) / len(late), weight)


def over_tasks(runs: Mapping[Policy, Sequence[Run]], better: Policy, value_usd: float) -> float:
    """Half of the 95 % interval of the blend's lead with other tasks drawn: the residuals of a task are
    summed over its seeds, because it is the same task in every order."""
    lead = np.concatenate([_late(a) - _late(b) for a, b in zip(runs["blend"], runs[better], strict=True)]) / value_usd
    tasks = np.concatenate([run.order[run.half :] for run in runs["blend"]])
    sums = np.bincount(tasks, weights=lead - lead.mean())
    return 1.96 * float(np.sqrt(np.square(sums).sum())) / len(lead)


def _late(run: Run) -> Numbers:
    return run.net[run.half :]


def _early(run: Run) -> Numbers:
    return run.net[: run.half]


def means(runs: Mapping[Policy, Sequence[Run]], part: Callable[[Run], Numbers]) -> dict[Policy, Numbers]:
    """Net value per task of one part of the order, for each policy seed by seed."""
    return {policy: np.array([part(one).mean() for one in of]) for policy, of in runs.items()}


def _directory() -> Path:
    directory = data_directory()
    if directory is None:
        sys.exit("the recorded tasks are not here; name their directory with POINTSMAN_DATA")
    return directory


class Measured:
    """All policies through one set, each seed in the same order."""

    def __init__(self, pool: Executor, name: str, seeds: int, *, plan: bool) -> None:
        self._pool = pool
        self._name = name
        self._seeds = seeds
        self._plan = plan

    def runs(self, value_usd: float, says: Sequence[str]) -> Iterator[tuple[str, dict[Policy, list[Run]]]]:
        """For each classifier what became of each policy; the forecast alone is the same beside all of them."""
        policies: tuple[Policy, ...] = ("classifier", "blend")
        alone = self._of([("forecast", says[0])], value_usd)["forecast", says[0]]
        found = self._of(list(product(policies, says)), value_usd)
        for one in says:
            yield one, {"forecast": alone, **{policy: found[policy, one] for policy in policies}}

    def _of(self, which: Sequence[tuple[Policy, str]], value_usd: float) -> dict[tuple[Policy, str], list[Run]]:
        seeds = range(self._seeds)
        jobs = [Job(self._name, *one, value_usd, seed, self._plan) for one in which for seed in seeds]
        runs = list(self._pool.map(played, jobs))
        return {one: runs[at * self._seeds : (at + 1) * self._seeds] for at, one in enumerate(which)}


def line(value_usd: float, says: str, runs: Mapping[Policy, Sequence[Run]], lead: Lead) -> str:
    """One line of the table."""
    late, learning = means(runs, _late), Lead.of(means(runs, _early), value_usd)
    return (
        f"  {value_usd:5g} {says:12}  {late['classifier'].mean():10.3f} {late['forecast'].mean():8.3f} "
        f"{late['blend'].mean():7.3f}   {lead!s:33} {over_tasks(runs, lead.better, value_usd):8.1%}  "
        f"{learning.mean:+14.1%} {np.mean([run.weight for run in runs['blend']]):+7.2f} "
        f"{np.mean([run.followed for run in runs['blend']]):8.0%}"
    )


def main() -> None:
    """The command."""
    parser = arguments(__doc__ or "", rounds=8, short_rounds=2)
    parser.add_argument("--sets", nargs="+", choices=SETS)
    parser.add_argument("--values", nargs="+", type=float)
    parser.add_argument("--says", nargs="+", choices=SAYS)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--plan", action="store_true", help="go through the first plan, and do not ask again")
    given = parsed(parser)
    report = Report("blend_recorded", given)
    values: Sequence[float] = given.values or ((3.0,) if given.short else VALUES)
    says: Sequence[str] = given.says or (SHORT if given.short else tuple(SAYS))
    worst = 0.0
    with ProcessPoolExecutor(given.jobs) as pool:
        for name in given.sets or (SETS[:1] if given.short else SETS):
            tasks = len(recorded_set(name, _directory()).tasks)
            report.say(f"{name}: {tasks} tasks, {given.rounds} seeds; net value per task of the latter half")
            report.say(
                "  value says          classifier forecast   blend   blend - better, % of value (95 %)   ± tasks  "
                "while learning  weight  follows"
            )
            for value in values:
                for one, runs in Measured(pool, name, given.rounds, plan=given.plan).runs(value, says):
                    lead = Lead.of(means(runs, _late), value)
                    worst = min(worst, lead.mean)
                    report.say(line(value, one, runs, lead))
    report.say(f"worst mean: {worst:+.2%} of the value (wanted: no less than {-LIMIT:.0%})")


if __name__ == "__main__":
    main()
