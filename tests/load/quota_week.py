"""A week of 2,000 tasks with bursts under a plan with windows: what the price of a window's use is worth.

    OPENBLAS_NUM_THREADS=1 python -m tests.load.quota_week [--short] [--weeks N] [--seed S] [--catalog FILE]
        [--without-cheap]

Agent `claude` of a catalog (the shipped one, or `--catalog FILE`) is paid by a plan with a window of five hours and one
of a week, the others by the token; with `--without-cheap` only those that cost about as much as it does, as where a
company allows a few strong models. Tasks come at random with bursts by day, are worth what the three objectives say,
and are solved as the forecast has it. Three ways of dispatching them, each by the best plan for what it takes an
attempt to cost, and what no way can exceed:

    priced   the list price times the chance that a window is used up (this service)
    list     the list price, windows ignored
    empty    nothing, until the window is used up
    free     nothing, and no window is ever used up: all that a plan can be worth

A window's loss is what was left of it at its reset and could have been used instead of money: the lesser of what was
left and of what was paid elsewhere while it lasted, for tasks that an attempt under the plan was still open to. What is
left of five hours is none where the week was then used up all the same.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from service.contract.catalog import Candidate
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.quota import Window
from service.forecast.difficulty import GRID, POPULATION, Array, ability, chances, cost_factor
from service.forecast.options import Options
from service.forecast.plan import best_path
from service.forecast.stakes import Stakes
from service.forecast.windows import tightest, used_up_until

START = datetime(2026, 11, 2, tzinfo=UTC)
WEEK = 7 * 24 * 60
FIVE_HOURS = 300
TASKS = 2000
PLAN_AGENT = "claude"
FIVE_HOURS_SHARE = 0.12
"""A window of five hours holds so much of the week's: eight and a third of them use up a week, as plans have it."""
CHEAP_USD = 0.2
VALUES = (1.5, 3.0, 15.0)
POLICIES = ("priced", "list", "empty", "free")
UNLIMITED_USD = 1e9
PATTERNS = ("half", "just", "double", "mornings", "end")


@dataclass
class Meter:
    """One window as it runs: list price used since it began, and what was paid elsewhere meanwhile."""

    minutes: float
    quota_usd: float
    began: float = 0.0
    used_usd: float = 0.0
    elsewhere_usd: float = 0.0

    @property
    def left_usd(self) -> float:
        """What may still be used."""
        return max(0.0, self.quota_usd - self.used_usd)

    def told(self) -> Window:
        """As a scheduler tells it."""
        resets_at = START + timedelta(minutes=self.began + self.minutes)
        return Window(minutes=self.minutes, used=min(1.0, self.used_usd / self.quota_usd), resets_at=resets_at)


@dataclass
class Pool:
    """A week's window with one of five hours within it; and the share of each that was lost."""

    short: Meter
    week: Meter
    losses: list[float] = field(default_factory=list[float])
    _ended: list[float] = field(default_factory=list[float])

    @property
    def meters(self) -> tuple[Meter, Meter]:
        """Both windows."""
        return self.short, self.week

    def advance(self, minute: float) -> None:
        """Ends the windows that are over by then."""
        while self.short.began + self.short.minutes <= minute:
            self._ended.append(min(self.short.left_usd, self.short.elsewhere_usd))
            self.short.began += self.short.minutes
            self.short.used_usd = self.short.elsewhere_usd = 0.0
        if minute >= WEEK:
            wasted = min(self.week.left_usd, self.week.elsewhere_usd)
            self.losses = [min(usd, wasted) / self.short.quota_usd for usd in self._ended]
            self.losses.append(wasted / self.week.quota_usd)

    def draw(self, usd: float) -> None:
        """An attempt under the plan."""
        for meter in self.meters:
            meter.used_usd += usd

    def pay(self, usd: float) -> None:
        """An attempt for money, in place of one under the plan."""
        for meter in self.meters:
            meter.elsewhere_usd += usd


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


def load(pattern: str, candidates: int, rng: np.random.Generator, tasks: int) -> Load:
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
        value=rng.choice(VALUES, size=tasks, p=(0.4, 0.4, 0.2)),
        luck=rng.random((tasks, candidates)),
    )


def run(policy: str, tasks: Load, candidates: Sequence[Candidate], week_usd: float) -> Week:
    """A week of dispatching."""
    theta = ability(np.array([one.solve_rate or 0.5 for one in candidates]))
    list_usd = np.array([one.cost_usd or 0.0 for one in candidates])
    planned = np.array([one.agent_type == PLAN_AGENT for one in candidates])
    pool = Pool(Meter(FIVE_HOURS, FIVE_HOURS_SHARE * week_usd), Meter(WEEK, week_usd))
    chance, factor, prior = chances(theta), cost_factor(0.0), POPULATION
    true_factor = np.interp(tasks.difficulty, GRID, factor)
    found, plans = Week(), dict[tuple[float, bytes, float], int | None]()
    for t, minute in enumerate(tasks.minute.tolist()):
        pool.advance(minute)
        now, left, untried = START + timedelta(minutes=minute), prior, np.ones(len(theta), dtype=bool)
        while untried.any():
            windows = [meter.told() for meter in pool.meters]
            closed = used_up_until(windows, reserve=0.0, now=now) is not None
            kept = np.flatnonzero(untried & ~(planned & closed))
            if not len(kept):
                break
            price = 1.0
            if policy == "priced":
                reading = tightest(windows, reserve=0.0, now=now)
                price = 1.0 if reading is None else reading.chance
            if policy in {"empty", "free"}:
                price = 0.0
            price = round(price, 2)  # so that plans can be kept
            told = (price, untried.tobytes() + kept.tobytes(), float(tasks.value[t]))
            if told not in plans:
                cost = list_usd * np.where(planned, price, 1.0)
                options = Options(chance[kept], cost[kept, None] * factor)
                path = best_path(left, options, Stakes(value_usd=float(tasks.value[t])))
                plans[told] = int(kept[path.order[0]]) if path.worthwhile else None
            c = plans[told]
            if c is None:
                break
            usd = float(list_usd[c] * true_factor[t])
            if planned[c]:
                pool.draw(usd)
                found.drawn_usd += usd
            else:
                found.paid_usd += usd
                if (untried & planned).any():
                    pool.pay(usd)
            if tasks.luck[t, c] < 1 / (1 + np.exp(tasks.difficulty[t] - theta[c])):
                found.solved_value += float(tasks.value[t])
                found.solved += 1
                break
            untried[c] = False
            left = left * (1 - chance[c])
            left = left / left.sum()
    pool.advance(WEEK)
    found.losses = pool.losses
    return found


def quotas(candidates: Sequence[Candidate], tasks: int, rng: np.random.Generator) -> float:
    """List price that a week takes where plan attempts cost nothing and no window ends: what is called the load."""
    return run("empty", load("just", len(candidates), rng, tasks), candidates, UNLIMITED_USD).drawn_usd


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tenth of the tasks")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    parser.add_argument("--weeks", type=int, default=3, help="Of other tasks each.")
    parser.add_argument("--seed", type=int, default=0, help="Of the first week.")
    parser.add_argument(
        "--without-cheap", action="store_true", help=f"No model for money under ${CHEAP_USD} an attempt."
    )
    options = parser.parse_args()
    every = load_catalog(options.catalog).candidates
    cheap = CHEAP_USD if options.without_cheap else 0.0
    candidates = [one for one in every if one.agent_type == PLAN_AGENT or (one.cost_usd or 0.0) >= cheap]
    tasks = TASKS // 10 if options.short else TASKS
    print(f"{tasks} tasks a week, {len(candidates)} candidates; means of {options.weeks} weeks")
    print("`priced` against each way in value and in net value, with the 95 % interval of the mean over the weeks")
    print(f"pattern   way    solved  value $  paid $ drawn $   net ${'value':>27}{'net':>27}  worst loss")
    for pattern in PATTERNS:
        show(pattern, [weeks_of(pattern, candidates, tasks, options.seed + week) for week in range(options.weeks)])


def weeks_of(pattern: str, candidates: Sequence[Candidate], tasks: int, seed: int) -> dict[str, Week]:
    """One week's tasks dispatched in each way."""
    full = quotas(candidates, tasks, np.random.default_rng(seed + 100))
    tasks_of = load(pattern, len(candidates), np.random.default_rng(seed), tasks)
    share = {"half": 2.0, "double": 0.5}.get(pattern, 1.0)
    quota = {policy: UNLIMITED_USD if policy == "free" else share * full for policy in POLICIES}
    return {policy: run(policy, tasks_of, candidates, quota[policy]) for policy in POLICIES}


def show(pattern: str, weeks: Sequence[dict[str, Week]]) -> None:
    """The means, and the worst window of all weeks."""
    for policy in POLICIES:
        mine = [week[policy] for week in weeks]
        solved, value, paid, drawn, net = (
            float(np.mean([getattr(week, name) for week in mine]))
            for name in ("solved", "solved_value", "paid_usd", "drawn_usd", "net")
        )
        by = {
            name: _gain([(getattr(w["priced"], name), getattr(w[policy], name)) for w in weeks]) for name in _COMPARED
        }
        worst = max(max(week.losses) for week in mine)
        print(
            f"{pattern:9} {policy:6} {solved:6.0f} {value:8.0f} {paid:7.0f} {drawn:7.0f} {net:7.0f} "
            f"{by['solved_value']:>26} {by['net']:>26} {worst:11.1%}"
        )


_COMPARED = ("solved_value", "net")


def _gain(pairs: Sequence[tuple[float, float]]) -> str:
    """Mean of the ratios less one, and its interval by a bootstrap over the weeks."""
    ratios = np.array([mine / other - 1 for mine, other in pairs])
    drawn = np.random.default_rng(0).choice(ratios, size=(4000, len(ratios))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5)) * 100
    return f"{ratios.mean():+.2%} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
