"""Kinds that mean nothing must cost nothing: labels drawn by lot over the tasks of one repository, taken for kinds.

`python -m tests.load.kinds_quality --meaningless` calls this. With and without them the same tasks are learned from
and the same others are forecast and played: what is lost is told in log-likelihood, with an interval over tasks, and in
value net of cost, with one over draws.
"""

from pathlib import Path

import msgspec
import numpy as np

from service.contract.catalog import Catalog
from service.contract.kind import Kind
from service.forecast.ability import learn
from service.forecast.forecaster import Forecaster
from tests.load.kinds_lots import Planned
from tests.support.recorded_tasks import Array, Recorded, folds

LABELS = 6
VALUES = (1.0, 3.0, 15.0)


def net(policy: Planned, recorded: Recorded, task: int, kind: int, value: float) -> float:
    """What a task is worth when it is played: the value if it is solved, less all costs."""
    left: tuple[int, ...] = tuple(range(len(recorded.models)))
    failed: tuple[int, ...] = ()
    spent = 0.0
    while left and (one := policy.next(kind, left, failed, value)) is not None:
        spent += float(recorded.cost_usd[task, one])
        if recorded.solved[task, one]:
            return value - spent
        left, failed = tuple(c for c in left if c != one), (*failed, one)
    return -spent


def log_likelihood(forecaster: Forecaster, recorded: Recorded, task: int, kinds: dict[str, float]) -> float:
    """Of what became of all models' first tries at a task."""
    said = forecaster.forecast(
        forecaster.catalog.candidates, labels={}, minutes=None, minutes_source="text", attempts=[], kinds=kinds
    )
    chance = np.array(said.p_solve)
    return float(np.log(np.where(recorded.solved[task], chance, 1 - chance)).sum())


def measure(data: Path, draws: range, labels: int = LABELS) -> None:
    """Prints what the labels cost."""
    recorded = Recorded.load(data)
    plain = recorded.catalog(None)
    kinds = tuple(f"lot-{i}" for i in range(labels))
    labelled = Catalog(plain.candidates, kinds=[Kind(id=kind) for kind in kinds])
    tasks, each = len(recorded.tasks), len(recorded.models)
    said: Array = np.zeros((len(draws), 2, tasks))
    worth: Array = np.zeros((len(draws), 2, len(VALUES), tasks))
    widths, sigmas = list[tuple[float, float]](), list[list[float]]()
    for d, seed in enumerate(draws):
        lot = np.random.default_rng(seed).integers(0, labels, tasks)
        for learned_from, tested in folds(tasks, 5, seed):
            rows = recorded.outcomes(learned_from)
            told = [msgspec.structs.replace(r, kind=kinds[lot[learned_from[i // each]]]) for i, r in enumerate(rows)]
            learned = learn(labelled, told)
            widths.append(learned.kind_widths)
            sigmas.append([learned.shape(kind).sigma for kind in kinds])
            both = Forecaster(plain, learn(plain, rows)), Forecaster(labelled, learned)
            policies = [Planned(one, kinds) for one in both]
            for t in tested.tolist():
                of = {kinds[lot[t]]: 1.0}
                for w, forecaster in enumerate(both):
                    said[d, w, t] = log_likelihood(forecaster, recorded, t, of)
                    worth[d, w, :, t] = [net(policies[w], recorded, t, int(lot[t]), value) for value in VALUES]
    lost = (said[:, 0] - said[:, 1]).mean(axis=0)
    by_draw = (said[:, 0] - said[:, 1]).sum(axis=1)
    print(f"{labels} labels, {len(draws)} draws: log-likelihood {said[:, 0].sum(axis=1).mean():.1f} without kinds")
    print(f"   lost with them: {tasks * lost.mean():+.2f} ± {1.96 * tasks**0.5 * lost.std(ddof=1):.2f} over tasks, "
          f"± {_half(by_draw):.2f} over draws ({by_draw.min():+.1f} to {by_draw.max():+.1f})")  # fmt: skip
    for v, value in enumerate(VALUES):
        gone = (worth[:, 0, v] - worth[:, 1, v]).mean(axis=1)
        over = (worth[:, 0, v] - worth[:, 1, v]).mean(axis=0)
        print(f"   value lost at ${value:g}: {gone.mean():+.4f} ± {_half(gone):.4f} dollars a task over draws, "
              f"± {1.96 * over.std(ddof=1) / tasks**0.5:.4f} over tasks; of {worth[:, 0, v].mean():.3f}: "
              f"{gone.mean() / worth[:, 0, v].mean():+.2%} ± {_half(gone) / worth[:, 0, v].mean():.2%}")  # fmt: skip
    print("   width of a kind, and of a candidate in it:", np.mean(widths, axis=0).round(3).tolist(),
          "spread of the kinds' sigmas:", float(np.std(sigmas, axis=1).mean().round(3)))  # fmt: skip


def _half(draws: Array) -> float:
    return float(1.96 * draws.std(ddof=1) / len(draws) ** 0.5) if len(draws) > 1 else float("nan")
