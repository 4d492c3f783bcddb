"""A week of 2,000 tasks with bursts under a plan with windows: what the price of a window's use is worth.

    OPENBLAS_NUM_THREADS=1 python -m tests.load.quota_week [--short] [--weeks N] [--seed S] [--scenario NAME]...

One agent of a catalog is paid by a plan with a window of five hours and one of a week, the others by the token; see
`SCENARIOS`. Tasks come at random with bursts, and are solved as the forecast has it. Three ways of dispatching them,
each by the best plan for what it takes an attempt to cost, and what no way can exceed:

    priced   the list price times the chance that a window is used up (this service)
    list     the list price, windows ignored
    empty    nothing, until the window is used up
    free     nothing, and no window is ever used up: all that a plan can be worth

A window's loss is what was left of it at its reset though money was paid elsewhere instead: the lesser of what was left
and of the list price of the attempts that it was held back from. An attempt was held back where another was paid for at
a moment at which a price of nothing would have had the plan begin with an attempt that the windows allowed. Where that
would have begun elsewhere all the same, or a window was closed, no price lost anything; `empty`, which holds nothing
back, has no loss by this. What is left of five hours is none where the week was then used up all the same, and what is
left of a week only what was lost of its windows of five hours. (No task waits here.)
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.contract.catalog import Candidate
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.forecast.difficulty import GRID, POPULATION, Array, ability, chances, cost_factor
from service.forecast.options import Options
from service.forecast.plan import best_path
from service.forecast.stakes import Stakes
from service.forecast.windows import tightest, used_up_until
from tests.load.quota_pool import START, WEEK, Pool

TASKS = 2000
POLICIES = ("priced", "list", "empty", "free")
UNLIMITED_USD = 1e9
PATTERNS = ("half", "just", "double", "mornings", "end")
CATALOG_2025 = Path(__file__).parents[1] / "data" / "catalog_2025.toml"
Flags = npt.NDArray[np.bool_]
MIXED = {1.5: 0.4, 3.0: 0.4, 15.0: 0.2}
"""What a task is worth by the three objectives, and how many are."""
LOCAL = Candidate(agent_type="local", model="small", solve_rate=0.4, cost_usd=0.0)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Who is there, who of them has the plan, and what tasks are worth."""

    catalog: Path = DEFAULT_CATALOG
    plan: str = "claude"
    cheapest_usd: float = 0.0
    only_local_beside: bool = False
    values: dict[float, float] = field(default_factory=lambda: MIXED)

    def candidates(self) -> list[Candidate]:
        """Those that compete."""
        every = load_catalog(self.catalog).candidates
        if self.only_local_beside:
            return [*(one for one in every if one.agent_type == self.plan), LOCAL]
        return [one for one in every if one.agent_type == self.plan or (one.cost_usd or 0.0) >= self.cheapest_usd]


SCENARIOS = {
    "claude": Scenario(),
    "claude-3": Scenario(values={3.0: 1.0}),
    "claude-1.5": Scenario(values={1.5: 1.0}),
    "codex": Scenario(plan="codex"),
    "gemini": Scenario(plan="gemini"),
    "strong": Scenario(catalog=CATALOG_2025, cheapest_usd=0.2),
    "local": Scenario(only_local_beside=True),
}
"""The shipped catalog with the plan for one agent, mixed values or one for all; the models of 2025 that cost $0.20 and
more, as where a company allows a few strong ones; and `claude` with a free local model as all that is there beside."""


@dataclass
class Week:
    """What came of a week."""

    solved_value: float = 0.0
    solved: int = 0
    paid_usd: float = 0.0
    drawn_usd: float = 0.0
    losses: list[float] = field(default_factory=list[float])

    @property
    def net(self) -> float:
        """Value less money."""
        return self.solved_value - self.paid_usd


@dataclass(frozen=True)
class Load:
    """The tasks: when each comes, how hard it is, what it is worth, and the luck of each candidate."""

    minute: Array
    difficulty: Array
    value: Array
    luck: Array


def load(pattern: str, scenario: Scenario, rng: np.random.Generator, tasks: int) -> Load:
    """Tasks in bursts of some ten within half an hour: by day, in the mornings only, or all on the last two days."""
    hours = np.arange(WEEK) / 60
    of_day = hours % 24
    rate = np.where((of_day >= 8) & (of_day < 20), 1.0, 0.1)
    if pattern == "mornings":
        rate = np.where((of_day >= 8) & (of_day < 11), 1.0, 0.05)
    if pattern == "end":
        rate = np.where(hours >= 5 * 24, rate, 0.03)
    bursts = rng.choice(WEEK, size=tasks // 10, p=rate / rate.sum())
    minute = np.sort(rng.choice(bursts, size=tasks) + rng.uniform(0, 30, tasks)).clip(0, WEEK - 1e-6)
    return Load(
        minute=minute,
        difficulty=rng.choice(GRID, size=tasks, p=POPULATION),
        value=rng.choice(list(scenario.values), size=tasks, p=list(scenario.values.values())),
        luck=rng.random((tasks, len(scenario.candidates()))),
    )


class Dispatcher:
    """The best plan's first step, by what an attempt under the plan costs; what was found once is remembered."""

    def __init__(self, scenario: Scenario) -> None:
        """By the catalog's figures."""
        candidates = scenario.candidates()
        self.theta = ability(np.array([one.solve_rate or 0.5 for one in candidates]))
        self.list_usd = np.array([one.cost_usd or 0.0 for one in candidates])
        self.planned = np.array([one.agent_type == scenario.plan for one in candidates])
        self.chance, self.factor = chances(self.theta), cost_factor(0.0)
        self._found = dict[tuple[float, float, bytes], int | None]()

    def first(self, price: float, value: float, untried: Flags, *, closed: bool) -> int | None:
        """Whom to try next; None where nobody is there or worth it."""
        open_to = untried & ~(self.planned & closed)
        told = (price, value, untried.tobytes() + open_to.tobytes())
        if told not in self._found:
            self._found[told] = self._best(price, value, ~untried, open_to) if open_to.any() else None
        return self._found[told]

    def _best(self, price: float, value: float, failed: Flags, open_to: Flags) -> int | None:
        kept = np.flatnonzero(open_to)
        left = POPULATION * (1 - self.chance[failed]).prod(axis=0)
        cost = self.list_usd * np.where(self.planned, price, 1.0)
        options = Options(self.chance[kept], cost[kept, None] * self.factor)
        path = best_path(left / left.sum(), options, Stakes(value_usd=value))
        return int(kept[path.order[0]]) if path.worthwhile else None


def run(policy: str, tasks: Load, by: Dispatcher, week_usd: float) -> Week:
    """A week of dispatching."""
    size = np.interp(tasks.difficulty, GRID, by.factor)
    pool, found = Pool.of(week_usd), Week()
    for t, minute in enumerate(tasks.minute.tolist()):
        pool.advance(minute)
        now, value, untried = START + timedelta(minutes=minute), float(tasks.value[t]), np.ones(len(by.theta), bool)
        while untried.any():
            windows = pool.told()
            closed = used_up_until(windows, reserve=0.0, now=now) is not None
            price = {"list": 1.0, "empty": 0.0, "free": 0.0}.get(policy)
            if price is None:
                reading = tightest(windows, reserve=0.0, now=now)
                price = 1.0 if reading is None else round(reading.chance, 2)  # so that plans can be kept
            c = by.first(price, value, untried, closed=closed)
            if c is not None and not by.planned[c] and by.list_usd[c] > 0:
                instead = by.first(0.0, value, untried, closed=closed)
                if instead is not None and by.planned[instead]:
                    pool.hold_back(float(by.list_usd[instead] * size[t]))
            if c is None:
                break
            usd = float(by.list_usd[c] * size[t])
            if by.planned[c]:
                pool.draw(usd)
                found.drawn_usd += usd
            else:
                found.paid_usd += usd
            if tasks.luck[t, c] < 1 / (1 + np.exp(tasks.difficulty[t] - by.theta[c])):
                found.solved_value += value
                found.solved += 1
                break
            untried[c] = False
    pool.advance(WEEK)
    found.losses = pool.losses
    return found


def weeks_of(pattern: str, scenario: Scenario, tasks: int, seed: int) -> dict[str, Week]:
    """One week's tasks dispatched in each way. What is called the load is the list price that a week takes where plan
    attempts cost nothing and no window ends."""
    by = Dispatcher(scenario)
    others = load("just", scenario, np.random.default_rng(seed + 100_000), tasks)
    full = run("free", others, by, UNLIMITED_USD).drawn_usd * {"half": 2.0, "double": 0.5}.get(pattern, 1.0)
    mine = load(pattern, scenario, np.random.default_rng(seed), tasks)
    return {policy: run(policy, mine, by, UNLIMITED_USD if policy == "free" else full) for policy in POLICIES}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="A tenth of the tasks.")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="Each of them, if none is named.")
    parser.add_argument("--weeks", type=int, default=3, help="Of other tasks each.")
    parser.add_argument("--seed", type=int, default=0, help="Of the first week.")
    options = parser.parse_args()
    tasks = TASKS // 10 if options.short else TASKS
    print(f"{tasks} tasks a week; means of {options.weeks} weeks")
    print("`priced` against each way in value and in net value, with the 95 % interval of the mean over the weeks")
    print(f"scenario   pattern   way    solved  value $  paid $ drawn $   net ${'value':>27}{'net':>27}  worst loss")
    for name in options.scenario or SCENARIOS:
        for pattern in PATTERNS:
            seeds = range(options.seed, options.seed + options.weeks)
            show(name, pattern, [weeks_of(pattern, SCENARIOS[name], tasks, seed) for seed in seeds])


def show(scenario: str, pattern: str, weeks: Sequence[dict[str, Week]]) -> None:
    """The means, and the worst window of all weeks."""
    for policy in POLICIES:
        mine = [week[policy] for week in weeks]
        solved, value, paid, drawn, net = (
            float(np.mean([getattr(week, name) for week in mine]))
            for name in ("solved", "solved_value", "paid_usd", "drawn_usd", "net")
        )
        pairs = [(week["priced"], other) for week, other in zip(weeks, mine, strict=True)]
        by_value = _gain([(one.solved_value, other.solved_value) for one, other in pairs])
        by_net = _gain([(one.net, other.net) for one, other in pairs])
        worst = max(max(week.losses) for week in mine)
        print(
            f"{scenario:10} {pattern:9} {policy:6} {solved:6.0f} {value:8.0f} {paid:7.0f} {drawn:7.0f} {net:7.0f} "
            f"{by_value:>26} {by_net:>26} {worst:11.1%}",
            flush=True,
        )


def _gain(pairs: Sequence[tuple[float, float]]) -> str:
    """Mean of the ratios less one, and its interval by a bootstrap over the weeks."""
    ratios = np.array([mine / other - 1 for mine, other in pairs])
    drawn = np.random.default_rng(0).choice(ratios, size=(4000, len(ratios))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5)) * 100
    return f"{ratios.mean():+.2%} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
