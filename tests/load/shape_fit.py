"""What the shape of difficulty rests on: predicted against seen after 0 to 3 failures, on tasks not learned from.

    OPENBLAS_NUM_THREADS=1 python -m tests.load.shape_fit [--folds N] [--repeats N] [--chains N]

Needs the recorded tasks (see tests/support/recorded_tasks.py): swebench_dev (one repository, 12 models) and
openhands_dev (a dozen of its pairs at a time, drawn at random) as a whole, with its kinds known, and each kind alone.
Each set is cross-validated by itself:
abilities and shape are learned from the other folds by the real code, from candidates without published figures, and
starting from the shape that the remaining sets have in common. They are learned from every candidate on every task, or
with `--chains` from what a scheduler reports: so many times per task, attempts in random order until one solves it,
each time as a task by itself. Attempts are made in random order (calibration, with
95 % intervals over tasks) and in the order of the plan at $1, $3 and $15 a solved task (calibration and value). The
baseline is the shape of release 1: sigma 3.25, every task solvable, whatever the data.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from service.contract.catalog import Candidate, Catalog
from service.contract.kind import Kind
from service.contract.task import Attempt
from service.forecast import ability
from service.forecast.ability import learn
from service.forecast.difficulty import SHAPE, Shape
from service.forecast.forecaster import Forecaster
from service.forecast.history import OutcomeRow
from service.forecast.learned import Learned
from service.forecast.stakes import Stakes
from tests.load.forgetting import interval
from tests.support.recorded_tasks import Array, data_directory, folds, read_lines

VALUES = (1.0, 3.0, 15.0)
STEPS = 4
PAIRS = 12
BEFORE = Shape(3.25, 1e-6)
FIXED = (1e-6, 1e-6)
"""Standard deviations of a shape that is not learned."""

LEAST = 20
"""Tasks that reached a step, below which nothing is said of it."""

Said = list[tuple[int, float, bool]]
"""Task, chance said, solved."""

Fold = tuple[Learned, Catalog, npt.NDArray[np.intp]]
"""What was learned, of which candidates, and the tasks to test it on."""


class Set:
    """Tasks of these kinds of work (none: of one), and the candidates that were tried on them."""

    def __init__(self, name: str, tasks: Sequence[dict[str, Any]], kinds: Sequence[str] = ()) -> None:
        self.name = name
        self.kinds = tuple(Kind(id=kind) for kind in kinds)
        self.tasks = [task for task in tasks if task["outcomes"]]
        models = {model for task in self.tasks for model in task["outcomes"]}
        self.models = sorted(models)

    @property
    def kind_ids(self) -> tuple[str, ...]:
        """Of the kinds that are told apart."""
        return tuple(kind.id for kind in self.kinds)

    def catalog(self, rng: np.random.Generator) -> Catalog:
        """A dozen of the candidates, with their mean costs and no rates."""
        drawn = sorted(rng.permutation(self.models)[:PAIRS].tolist())
        candidates = (Candidate(agent_type="any", model=model, cost_usd=self.cost(model)) for model in drawn)
        return Catalog(candidates, kinds=self.kinds)

    def kind(self, task: int) -> str | None:
        """Of one task, where the kinds are told apart."""
        return self.tasks[task]["labels"]["kind"] if self.kinds else None

    def cost(self, model: str) -> float:
        """Mean cost of an attempt."""
        return float(np.mean([t["outcomes"][model]["cost_usd"] for t in self.tasks if model in t["outcomes"]]))

    def rows(self, catalog: Catalog, tasks: Sequence[int]) -> list[OutcomeRow]:
        """What these tasks teach."""
        return [
            OutcomeRow(
                agent_type="any",
                model=candidate.model,
                solved=bool(self.tasks[t]["outcomes"][candidate.model]["solved"]),
                cost_usd=float(self.tasks[t]["outcomes"][candidate.model]["cost_usd"]),
                task=self.tasks[t]["id"],
                kind=self.kind(t),
            )
            for t in tasks
            for candidate in catalog.candidates
            if candidate.model in self.tasks[t]["outcomes"]
        ]

    def chains(self, catalog: Catalog, tasks: Sequence[int], times: int, rng: np.random.Generator) -> list[OutcomeRow]:
        """What these tasks teach a scheduler that tries on until one is solved."""
        rows = self.rows(catalog, tasks)
        of_task: dict[str | None, list[OutcomeRow]] = {}
        for row in rows:
            of_task.setdefault(row.task, []).append(row)
        found: list[OutcomeRow] = []
        for all_rows in of_task.values():
            for time in range(times):
                order: list[int] = rng.permutation(len(all_rows)).tolist()
                for row in [all_rows[number] for number in order[:STEPS]]:
                    found.append(msgspec.structs.replace(row, task=f"{row.task} {time}"))
                    if row.solved:
                        break
        return found

    def left(self, catalog: Catalog, task: int, attempts: Sequence[Attempt]) -> list[Candidate]:
        """Who was recorded on this task and has not been tried."""
        tried = {attempt.model for attempt in attempts}
        return [c for c in catalog.candidates if c.model in self.tasks[task]["outcomes"] and c.model not in tried]


def load(directory: Path) -> list[Set]:
    """The sets; greenfield has eight tasks, too few to calibrate on."""
    openhands = read_lines(directory / "openhands_dev.jsonl")
    kinds = ("issue", "testing", "research", "frontend")
    found = [Set("swebench", read_lines(directory / "swebench_dev.jsonl"))]
    found.append(Set("openhands", [t for t in openhands if t["labels"]["kind"] in kinds], kinds))
    return found + [Set(kind, [t for t in openhands if t["labels"]["kind"] == kind]) for kind in kinds]


def shape_of(one: Set, start: Shape) -> Shape:
    """As all tasks of a set show it."""
    catalog = one.catalog(np.random.default_rng(0))
    return learn(catalog, one.rows(catalog, range(len(one.tasks))), shape=start).shape(None)


def in_common(shapes: Sequence[Shape]) -> Shape:
    """The geometric mean."""
    sigma = float(np.exp(np.mean([np.log(one.sigma) for one in shapes])))
    return Shape(sigma, float(np.exp(np.mean([np.log(one.unsolvable) for one in shapes]))))


def play(
    one: Set, forecaster: Forecaster, task: int, value_usd: float | None, rng: np.random.Generator
) -> tuple[Said, float]:
    """Attempts at one task, in random order or (where solving it has a value) as planned; and what came of it."""
    attempts: list[Attempt] = []
    said: Said = []
    worth = 0.0
    kind = one.kind(task)
    kinds = {kind: 1.0} if kind else None
    while left := one.left(forecaster.catalog, task, attempts):
        forecast = forecaster.forecast(
            left, labels={}, minutes=None, minutes_source="text", attempts=attempts, kinds=kinds
        )
        if value_usd is None:
            chosen = left[int(rng.integers(len(left)))]
        else:
            plan = forecast.plan(Stakes(value_usd=value_usd))
            if attempts and not plan.worthwhile:
                break
            chosen = next(one for one in left if one.model == plan.steps[0].model)
        outcome = one.tasks[task]["outcomes"][chosen.model]
        said.append((task, forecast.p_solve[left.index(chosen)], bool(outcome["solved"])))
        worth += (value_usd or 0.0) * outcome["solved"] - outcome["cost_usd"]
        if outcome["solved"] or (value_usd is None and len(said) == STEPS):
            break
        attempts.append(Attempt(agent_type="any", model=chosen.model, result="failed"))
    return said, worth


def calibration(one: Set, learned: list[Fold], value_usd: float | None, draws: int) -> tuple[list[Said], Array]:
    """What was said and seen at each step, and the worth of each task."""
    rng = np.random.default_rng(1)
    by_step: list[Said] = [[] for _ in range(STEPS)]
    worths: list[float] = []
    for known, catalog, test in learned:
        forecaster = Forecaster(catalog, known)
        for number in test.repeat(draws).tolist():
            said, worth = play(one, forecaster, int(number), value_usd, rng)
            worths.append(worth)
            for step, what in enumerate(said[:STEPS]):
                by_step[step].append(what)
    return by_step, np.array(worths)


def told(by_step: Sequence[Said]) -> str:
    """For each step the means of what was said and seen, and the interval of their difference over tasks."""
    found = ""
    for rows in by_step:
        task, p, solved = np.array(rows, dtype=np.float64).reshape(-1, 3).T
        if len(set(task.tolist())) < LEAST:
            found += "  " + " " * 28
            continue
        gap = p - solved
        sums, counts = np.bincount(task.astype(int), gap), np.bincount(task.astype(int))
        at = np.flatnonzero(counts)
        drawn = np.random.default_rng(0).choice(at, (1000, len(at)))
        low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
        found += f"  {p.mean():.3f} {solved.mean():.3f} ({low:+.3f} {high:+.3f})"
    return found


def measure(one: Set, start: Shape, *, fixed: bool, options: argparse.Namespace) -> dict[float, Array]:
    """Prints a set's figures, learning from one start; the worth of its tasks by the value of solving one."""
    before = ability.LOG_SIGMA_SD, ability.LOG_ODDS_SD
    if fixed:
        ability.LOG_SIGMA_SD, ability.LOG_ODDS_SD = FIXED
    learned: list[Fold] = []
    for repeat in range(options.repeats if len(one.models) > PAIRS else 1):
        catalog = one.catalog(np.random.default_rng(repeat))
        for train, test in folds(len(one.tasks), options.folds, seed=repeat):
            rows = one.rows(catalog, train.tolist())
            if options.chains:
                rows = one.chains(catalog, train.tolist(), options.chains, np.random.default_rng(repeat))
            learned.append((learn(catalog, rows, shape=start), catalog, test))
    ability.LOG_SIGMA_SD, ability.LOG_ODDS_SD = before
    shape = in_common([known.shape(None) for known, _, _ in learned])
    said, _ = calibration(one, learned, None, 6)
    name = "before" if fixed else "now   "
    print(f"{one.name:9} {name} sigma {shape.sigma:.2f} unsolvable {shape.unsolvable:.3f}\n    random {told(said)}")
    for kind in one.kind_ids:
        print(f"    of them {kind:9}{told([[row for row in rows if one.kind(row[0]) == kind] for rows in said])}")
    worths: dict[float, Array] = {}
    for value in VALUES:
        said, worths[value] = calibration(one, learned, value, 1)
        print(f"    ${value:<5.0f} {told(said)}  worth {worths[value].mean():.4f}", flush=True)
    return worths


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--chains", type=int, default=0)
    options = parser.parse_args()
    directory = data_directory()
    if directory is None:
        parser.error("the recorded tasks are not here; name their directory with POINTSMAN_DATA")
    sets = load(directory)
    shapes = {one.name: shape_of(one, SHAPE) for one in sets if not one.kinds}
    for name, shape in shapes.items():
        print(f"{name:9} sigma {shape.sigma:.2f} unsolvable {shape.unsolvable:.3f}")
    common = in_common(list(shapes.values()))
    print(f"in common sigma {common.sigma:.2f} unsolvable {common.unsolvable:.3f}")
    print("said, seen (interval of the difference) after 0, 1, 2, 3 failures; worth of a task in dollars")
    for one in sets:
        others = in_common([shape for name, shape in shapes.items() if name not in {one.name, *one.kind_ids}])
        before = measure(one, BEFORE, fixed=True, options=options)
        now = measure(one, others, fixed=False, options=options)
        gains = [f"${value:.0f} {interval((now[value] - before[value]).tolist())}" for value in VALUES]
        print(f"    gain in worth: {', '.join(gains)}")


if __name__ == "__main__":
    main()
