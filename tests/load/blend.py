"""Does a classifier earn its keep? First choices by it, by the forecast alone, and by both, in a simulated service.

    python -m tests.load.blend [--short] [--rounds SEEDS]

Tasks have a difficulty, and each candidate a talent for each task that nobody can learn beforehand (its spread is
`talent`, in logits). The classifier knows the chance of every candidate for the very task, and names the one with the
best expected value with the chance `right`, else any other. Each policy decides 500 tasks of its own, learns from what
becomes of them (abilities, costs, and the classifier's weight), and is then measured on new tasks that all share. Net
value: what solved tasks are worth less what attempts cost, per task.
"""

import statistics
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.contract.catalog import Catalog
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.forecast.ability import learn
from service.forecast.forecaster import Forecaster
from service.forecast.history import OutcomeRow
from service.forecast.leaning import Tried, Weight, in_logits, leans_of_choice, learn_weight
from service.forecast.stakes import Stakes
from tests.load.leads import LIMIT, POLICIES, Lead, Numbers, Policy
from tests.load.support import Report, arguments, parsed

LEARNED_FROM = 500
RELEARN_EVERY = 50


@dataclass(frozen=True, slots=True)
class Tasks:
    """Whether each candidate would solve each task, and whom the classifier names."""

    solved: npt.NDArray[np.bool_]
    named: npt.NDArray[np.int64]


class World:
    """The catalog's candidates as they are published, and tasks for them."""

    def __init__(self, value_usd: float, talent: float) -> None:
        catalog = load_catalog(DEFAULT_CATALOG)
        self.catalog = Catalog(catalog.candidates)
        self.value_usd = value_usd
        self._talent = talent
        self.published = Forecaster(self.catalog)
        reports = self.published.abilities()
        self._theta = np.array([one.theta for one in reports])
        self.cost = np.array([one.learned_cost_usd for one in reports])

    def tasks(self, source: np.random.Generator, count: int, right: float) -> Tasks:
        """So many of them, and a classifier that is right so often."""
        candidates = len(self._theta)
        difficulty = source.normal(0.0, 2.0, count)
        talent: Numbers = self._talent * source.normal(0.0, 1.0, (count, candidates))
        chance: Numbers = 1 / (1 + np.exp(-(self._theta - difficulty[:, None] + talent)))
        best = np.argmax(self.value_usd * chance - self.cost, axis=1)
        other = (best + source.integers(1, candidates, count)) % candidates
        right_here: npt.NDArray[np.bool_] = source.random(count) < right
        named: npt.NDArray[np.int64] = other.astype(np.int64)
        named[right_here] = best[right_here]
        return Tasks(source.random((count, candidates)) < chance, named)


class Scheduler:
    """Decides by one policy, tries what it is told, and learns from it."""

    def __init__(self, world: World, policy: str) -> None:
        self._world = world
        self._policy = policy
        self._forecaster = world.published
        self._rows: list[OutcomeRow] = []
        self._tried: list[Tried] = []
        self._stakes = Stakes(value_usd=world.value_usd)
        self._keys = [candidate.key for candidate in world.catalog.candidates]
        self.weight = Weight()
        self.followed = 0

    def decide(self, tasks: Tasks, number: int, *, learns: bool) -> float:
        """One task from its decision to its end; the net value of it."""
        world, candidates = self._world, self._world.catalog.candidates
        alone = self._forecaster.forecast(
            candidates, labels={}, minutes=None, minutes_source="text", attempts=()
        )  # fmt: skip
        named = candidates[int(tasks.named[number])]
        leans = leans_of_choice(named.key, self._keys)
        forecast, first = alone, None
        if self._policy != "forecast":
            forecast = alone.swayed(in_logits(leans, self.weight))
        if self._policy == "classifier":
            first = named
        elif self._policy == "blend":
            hopeful = alone.swayed(in_logits(leans, self.weight.hopeful)).plan(self._stakes)
            first = world.catalog.by_key[hopeful.steps[0].key]
        net = 0.0
        for step_number, step in enumerate(forecast.plan(self._stakes, first).steps):
            place = self._keys.index(step.key)
            solved = bool(tasks.solved[number, place])
            if step_number == 0:
                self.followed += step.key == named.key
            if learns:
                self._note(place, step_number, number, solved=solved, lean=leans[place], alone=alone.p_solve[place])
            net -= float(world.cost[place])
            if solved:
                return net + world.value_usd
        return net

    def learn(self) -> None:
        """From all that was tried so far."""
        self._forecaster = Forecaster(self._world.catalog, learn(self._world.catalog, self._rows))
        self.weight = learn_weight(self._tried)

    def _note(self, place: int, step: int, number: int, *, solved: bool, lean: float, alone: float) -> None:
        candidate = self._world.catalog.candidates[place]
        row = OutcomeRow(
            agent_type=candidate.key[0],
            model=candidate.key[1],
            solved=solved,
            cost_usd=float(self._world.cost[place]),
            task=str(number),
        )
        self._rows.append(row)
        if step == 0:
            self._tried.append(Tried(p_forecast=alone, lean=lean, solved=solved))


def played(world: World, policy: str, right: float, seed: int, tested: int) -> tuple[float, float, float, float]:
    """Net value per task while learning and afterwards; the weight, and the share of choices that are the
    classifier's."""
    source = np.random.default_rng(seed)
    first, later = world.tasks(source, LEARNED_FROM, right), world.tasks(source, tested, right)
    scheduler = Scheduler(world, policy)
    early: list[float] = []
    for number in range(LEARNED_FROM):
        early.append(scheduler.decide(first, number, learns=True))
        if number % RELEARN_EVERY == RELEARN_EVERY - 1:
            scheduler.learn()
    scheduler.followed = 0
    late = [scheduler.decide(later, number, learns=False) for number in range(tested)]
    return statistics.mean(early), statistics.mean(late), scheduler.weight.weight, scheduler.followed / tested


def main() -> None:
    """The command."""
    given = parsed(arguments(__doc__ or "", rounds=40, short_rounds=3))
    report = Report("blend", given)
    tested = 500 if given.short else 1000
    worst = 0.0
    report.say(f"net value per task after {LEARNED_FROM} tasks, mean of {given.rounds} seeds x {tested} tasks")
    report.say("  value talent right  classifier forecast  blend   blend - better, % of value (95 %)  while learning  "
               "weight  follows")  # fmt: skip
    for value in (1.5, 3.0, 15.0):
        for talent in (0.0, 1.0):
            world = World(value, talent)
            for right in (0.3, 0.6, 0.9):
                found = {
                    policy: [played(world, policy, right, seed, tested) for seed in range(given.rounds)]
                    for policy in POLICIES
                }
                late: dict[Policy, Numbers] = {
                    policy: np.array([one[1] for one in found[policy]]) for policy in POLICIES
                }
                early: dict[Policy, Numbers] = {
                    policy: np.array([one[0] for one in found[policy]]) for policy in POLICIES
                }
                lead, learning = Lead.of(late, value), Lead.of(early, value)
                worst = min(worst, lead.mean)
                report.say(
                    f"  {value:5g} {talent:6g} {right:5.0%}  {late['classifier'].mean():10.3f} "
                    f"{late['forecast'].mean():8.3f} {late['blend'].mean():6.3f}   "
                    f"{lead!s:33} {learning.mean:+14.1%}  {np.mean([one[2] for one in found['blend']]):12.2f} "
                    f"{np.mean([one[3] for one in found['blend']]):8.0%}"
                )
    report.say(f"worst mean: {worst:+.2%} of the value (allowed: {-LIMIT:.0%})")
    if worst < -LIMIT:
        raise SystemExit("the blend is worse than allowed")


if __name__ == "__main__":
    main()
