"""How fast the forecast is, and what the screen beyond 12 candidates loses against the exact plan.

OPENBLAS_NUM_THREADS=1 python -m tests.load.bench_forecast [decide|kinds|shared|learn|screen ...] [--short] [--rounds N]

`decide`: by number of candidates and by outcomes learned from, each task another one, so that no forecast is found
again; `shared`: where it is.
"""

import time
from collections.abc import Iterator
from typing import Protocol

import msgspec
import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.kind import Figures, Kind
from service.contract.task import Attempt
from service.forecast import plan
from service.forecast.ability import learn
from service.forecast.difficulty import POPULATION, chances, cost_factor
from service.forecast.forecaster import Forecaster
from service.forecast.history import History, OutcomeRow
from service.forecast.options import Options
from service.forecast.stakes import Stakes
from tests.load.support import Report, arguments, parsed


class Part(Protocol):
    """One part of the benchmark."""

    def __call__(self, report: Report, *, short: bool) -> None:
        """Measures and reports."""


SHAPES = ("independent", "priced", "front")


def candidates(rng: np.random.Generator, count: int, shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Abilities and costs: unrelated, dearer by and large where better, or dearer wherever better."""
    theta = rng.normal(0.5, 1.5, count)
    cost = np.exp(rng.normal(-1.5, 1.5, count))
    if shape == "priced":
        cost = np.exp(-1.5 + 0.8 * (theta - 0.5) + rng.normal(0, 0.5, count))
    if shape == "front":
        theta, cost = np.sort(theta), np.sort(cost)
    return theta, cost


def catalog_of(rng: np.random.Generator, count: int, shape: str) -> Catalog:
    """A catalog of one agent type."""
    theta, cost = candidates(rng, count, shape)
    rates = chances(theta) @ POPULATION
    return Catalog(
        Candidate(agent_type="any", model=f"m{i}", solve_rate=float(rates[i]), cost_usd=float(cost[i]))
        for i in range(count)
    )


def of_kinds(rng: np.random.Generator, count: int, shape: str) -> Catalog:
    """The same with figures of its own for each of five kinds of work."""
    plain = catalog_of(rng, count, shape)
    kinds = [Kind(id=f"kind{k}", description="Some kind of work.") for k in range(5)]
    return Catalog(
        [
            msgspec.structs.replace(
                candidate,
                kinds={
                    kind.id: Figures(
                        solve_rate=float(np.clip((candidate.solve_rate or 0.5) + rng.normal(0, 0.15), 0.02, 0.95)),
                        cost_usd=(candidate.cost_usd or 0.1) * float(np.exp(rng.normal(0, 0.5))),
                    )
                    for kind in kinds
                },
            )
            for candidate in plain.candidates
        ],
        kinds=kinds,
    )


def decide(report: Report, *, short: bool) -> None:
    """Forecast and plan, by number of candidates, and by the outcomes that were learned from."""
    report.say("forecast + plan, ms                     p50     p99 by the clock   p50     p99 of processor time")
    for count in (2, 12, 50) if short else (2, 6, 12, 14, 20, 30, 40, 50):
        catalogs = [catalog_of(np.random.default_rng(seed), count, SHAPES[seed % 3]) for seed in range(20)]
        _time(report, f"{count} candidates", [Forecaster(catalog) for catalog in catalogs])
    mixed = [of_kinds(np.random.default_rng(seed), 12, SHAPES[seed % 3]) for seed in range(20)]
    _time(report, "12 candidates, five kinds mixed", [Forecaster(catalog) for catalog in mixed])
    catalog = catalog_of(np.random.default_rng(0), 12, "priced")
    for outcomes in (0, 10_000) if short else (0, 1_000, 10_000, 100_000):
        rows = simulated(np.random.default_rng(0), outcomes, 12, 2, 50)
        _time(report, f"12 candidates, {outcomes} outcomes", [Forecaster(catalog, learn(catalog, History(rows)))])


def shared(report: Report, *, short: bool) -> None:
    """The same, asked again for a task that differs in nothing that it rests on."""
    del short
    forecaster = Forecaster(catalog_of(np.random.default_rng(0), 12, "priced"))
    _time(report, "12 candidates, shared", [forecaster], vary=False)


def kinds(report: Report, *, short: bool) -> None:
    """The catalog that ships, its 12 candidates, by how many kinds a task may be of."""
    catalog = load_catalog(DEFAULT_CATALOG)
    forecaster = Forecaster(catalog)
    for number in (1, 3) if short else (1, 2, 3, 5):
        of = dict.fromkeys(catalog.kind_ids[:number], 1 / number)
        _time(report, f"12 candidates, {number} kinds", [forecaster], kinds=of)


def _time(
    report: Report,
    name: str,
    forecasters: list[Forecaster],
    *,
    vary: bool = True,
    kinds: dict[str, float] | None = None,
) -> None:
    taken: list[float] = []
    spent: list[float] = []
    rng = np.random.default_rng(1)
    for number in range(1200):
        forecaster = forecasters[number % len(forecasters)]
        value, minutes = (float(np.exp(rng.uniform(-1, 4))), 1.0 + number / 10) if vary else (3.0, 30.0)
        begin, worked = time.perf_counter(), time.thread_time()
        forecaster.forecast(
            forecaster.catalog.candidates,
            labels={"repo": "r1", "team": "t1"},
            minutes=minutes,
            minutes_source="text",
            attempts=[Attempt(agent_type="any", model="m0", result="failed")],
            kinds=kinds or {kind: 1 / len(forecaster.catalog.kind_ids) for kind in forecaster.catalog.kind_ids},
        ).plan(Stakes(value_usd=value))
        spent.append((time.thread_time() - worked) * 1e3)
        taken.append((time.perf_counter() - begin) * 1e3)
    told = ""
    for what, now in (("", taken[200:]), (", processor time", spent[200:])):
        for share in (0.5, 0.99):
            value = float(np.quantile(now, share))
            report.figure(f"{name}, p{share * 100:.0f}{what}, ms", value)
            told += f" {value:8.3f}"
    report.say(f"  {name:32} {told}")


def simulated(rng: np.random.Generator, outcomes: int, models: int, per_task: int, repos: int) -> Iterator[OutcomeRow]:
    """Outcomes by the Rasch model, with a label that few tasks share and one that none do."""
    theta = np.linspace(-1.5, 2.0, models)
    for task in range(outcomes // per_task):
        difficulty = rng.normal(0, 3.25)
        for model in rng.permutation(models)[:per_task].tolist():
            yield OutcomeRow(
                agent_type="any",
                model=f"m{model}",
                solved=bool(rng.random() < 1 / (1 + np.exp(difficulty - theta[model]))),
                cost_usd=float(rng.lognormal(-2, 1)),
                labels={"repo": f"r{task % repos}", "team": f"t{task % 7}", "commit": f"c{task}"},
                task=f"task-{task}",
                minutes=float(rng.integers(1, 200)) if task % 2 else None,
            )


def learning(report: Report, *, short: bool) -> None:
    """Re-estimation, by what the outcomes are like."""
    report.say("learning, seconds                                  to columns   learn")
    cases = [
        (100_000, 12, 1, 5),
        (100_000, 12, 2, 50),
        (100_000, 12, 3, 5000),
        (100_000, 12, 12, 50),
        (100_000, 50, 1, 50),
        (100_000, 50, 3, 50),
    ]
    for outcomes, models, per_task, repos in cases[:2] if short else cases:
        rng = np.random.default_rng(0)
        catalog = catalog_of(rng, models, "priced")
        rows = list(simulated(rng, outcomes, models, per_task, repos))
        begin = time.perf_counter()
        history = History(rows)
        middle = time.perf_counter()
        learn(catalog, history)
        taken = time.perf_counter() - middle
        report.figure(f"learn, {models} models, {per_task} a task, {repos} repos, s", taken)
        report.say(
            f"  {outcomes:9,} outcomes {models:3} models {per_task:2} a task {repos:5} repos  "
            f"{middle - begin:8.2f} {taken:8.2f}"
        )
    if short:
        return
    catalog = catalog_of(np.random.default_rng(0), 12, "priced")
    row = OutcomeRow(agent_type="any", model="m3", solved=True, cost_usd=0.1, labels={"repo": "one"}, task=None)
    begin = time.perf_counter()
    history = History(row for _ in range(1_000_000))
    middle = time.perf_counter()
    learn(catalog, history)
    end = time.perf_counter()
    report.say(f"  1,000,000 outcomes of one model and label                {middle - begin:8.2f} {end - middle:8.2f}")


def screen(report: Report, *, short: bool) -> None:
    """The plan's worth with the screen against the dynamic programme over every candidate."""
    report.say("loss by the screen, share of the exact plan's worth")
    for count, times in ((14, 10),) if short else ((14, 60), (16, 45), (18, 15), (20, 6)):
        losses: list[float] = []
        for seed in range(times):
            rng = np.random.default_rng(1000 * count + seed)
            theta, cost = candidates(rng, count, SHAPES[2 if seed % 2 else seed % 3])
            chance, price = chances(theta), cost[:, None] * cost_factor(0.0)
            value = float(np.exp(rng.uniform(-1, 4)))
            options, stakes = Options(chance, price), Stakes(value_usd=value)
            found = plan.best_path(POPULATION, options, stakes)
            best = plan.best_path(POPULATION, options, stakes, exact=count)
            worth, most = (value * path.total_p_solve - path.total_cost_usd for path in (found, best))
            losses.append(1 - worth / most if most > 0 else 0.0)
        report.figure(f"screen, {count} candidates, mean loss", float(np.mean(losses)))
        report.say(
            f"  {count:3} candidates, {times:2} instances: mean {np.mean(losses):.5f}, worst {np.max(losses):.5f}"
        )


PARTS: dict[str, Part] = {"decide": decide, "kinds": kinds, "shared": shared, "learn": learning, "screen": screen}


def main() -> None:
    """The command."""
    parser = arguments(__doc__ or "")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    given = parsed(parser)
    report = Report("forecast", given)
    for part in given.parts or PARTS:
        PARTS[part](report, short=given.short)
    report.end()


if __name__ == "__main__":
    main()
