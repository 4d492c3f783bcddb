"""A world of tasks as the forecast thinks of it, and a scheduler that does what the README says, over HTTP."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.forecast.difficulty import SHAPE, Array, Shape, ability, chances, cost_factor, density
from service.forecast.options import Options
from service.forecast.plan import best_path
from service.forecast.stakes import Stakes

REPOSITORIES = ("web", "core", "infra")
SHIFTS = (-1.5, 0.0, 1.5)
"""How much harder the tasks of each repository are, in logits."""


@dataclass(slots=True)
class World:
    """Five models of one agent type, two of whose published rates are off; `shift` is added to every difficulty."""

    rng: np.random.Generator
    shape: Shape = SHAPE
    true: tuple[float, ...] = (0.45, 0.60, 0.50, 0.80, 0.75)
    published: tuple[float, ...] = (0.45, 0.60, 0.70, 0.80, 0.68)
    cost_usd: tuple[float, ...] = (0.03, 0.10, 0.15, 0.90, 0.40)
    theta: Array = field(init=False)

    def __post_init__(self) -> None:
        """Abilities from true rates."""
        self.theta = ability(np.array(self.true), self.shape)

    def catalog_text(self) -> str:
        """What was published, as a catalog file."""
        models = "".join(
            f'[[agent.model]]\nid = "m{m}"\nsolve_rate = {rate}\ncost_usd = {cost}\n'
            for m, (rate, cost) in enumerate(zip(self.published, self.cost_usd, strict=True))
        )
        return f'[[agent]]\ntype = "any"\n{models}'

    def catalog(self) -> Catalog:
        """The same, as a catalog."""
        return Catalog(
            Candidate(agent_type="any", model=f"m{m}", solve_rate=rate, cost_usd=cost)
            for m, (rate, cost) in enumerate(zip(self.published, self.cost_usd, strict=True))
        )

    def difficulty(self, repository: int) -> float:
        """Of a new task there."""
        hopeless = self.rng.random() < self.shape.unsolvable
        return 100.0 if hopeless else float(self.rng.normal(SHIFTS[repository], self.shape.sigma))

    def solves(self, model: int, difficulty: float) -> bool:
        """Whether an attempt solves it."""
        return bool(self.rng.random() < 1 / (1 + np.exp(difficulty - self.theta[model])))

    def plan(self, repository: int, value_usd: float, failed: tuple[int, ...] = ()) -> list[int]:
        """What one who knows the truth would try, from here on; empty where nothing is worth it."""
        prior, chance = density(SHIFTS[repository], self.shape), chances(self.theta)
        for model in failed:
            prior = prior * (1 - chance[model])
        left = [m for m in range(len(self.true)) if m not in failed]
        if not left:
            return []
        cost = np.array(self.cost_usd)[left, None] * cost_factor(0.0, self.shape)
        path = best_path(prior / prior.sum(), Options(chance[left], cost), Stakes(value_usd=value_usd))
        return [left[c] for c in path.order] if path.worthwhile or not failed else []

    def worth(self, order: list[int], repository: int, value_usd: float) -> float:
        """The expected value of a plan in truth, less its expected cost."""
        left, total = density(SHIFTS[repository], self.shape), 0.0
        chance, factor = chances(self.theta), cost_factor(0.0, self.shape)
        for m in order:
            total += float(left @ (value_usd * chance[m] - self.cost_usd[m] * factor))
            left = left * (1 - chance[m])
        return total


@dataclass(frozen=True, slots=True)
class Month:
    """For each task of the second half: the expected worth of the plan it was given and of the best one, and how many
    steps both have."""

    worths: list[float]
    best: list[float]
    steps: list[int]
    best_steps: list[int]


async def month(
    world: World, client: httpx.AsyncClient, *, tasks: int, value_usd: float, settled: Callable[[], Awaitable[object]]
) -> Month:
    """A scheduler to the letter: labels and task_id said once, to classify; a re-ask with `attempts` after each
    failure, as long as another attempt is worthwhile; each result by its decision_id and nothing else.

    `settled` is awaited every few tasks, so that what was reported is learned whatever the machine does meanwhile.
    """
    told = Month([], [], [], [])
    for number in range(tasks):
        repository = int(world.rng.integers(len(REPOSITORIES)))
        difficulty = world.difficulty(repository)
        attempts: list[dict[str, str]] = []
        while len(attempts) < len(world.true):
            request = {
                "instructions": "Fix it.",
                "task_id": f"task-{number}",
                "labels": {"repo": REPOSITORIES[repository]},
                "value_usd": value_usd,
                "attempts": attempts,
            }
            decision = (await client.post("/v1/classify", json=request)).raise_for_status().json()
            if not attempts and number >= tasks // 2:
                order = [int(step["model"][1:]) for step in decision["plan"]]
                best = world.plan(repository, value_usd)
                told.worths.append(world.worth(order, repository, value_usd))
                told.best.append(world.worth(best, repository, value_usd))
                told.steps.append(len(order))
                told.best_steps.append(len(best))
            if attempts and not decision["worthwhile"]:
                break
            model = int(decision["model"][1:])
            solved = world.solves(model, difficulty)
            cost = world.cost_usd[model] * float(world.rng.lognormal(-0.045, 0.3))
            outcome = {"decision_id": decision["decision_id"], "solved": solved, "cost_usd": cost}
            (await client.post("/v1/outcomes", json=outcome)).raise_for_status()
            if solved:
                break
            attempts.append({"agent_type": "any", "model": decision["model"], "result": "failed"})
        if number % 20 == 0:
            await settled()
    return told
