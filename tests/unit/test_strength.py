"""How well a candidate's strength is known, over all tasks and in each kind of work."""

import msgspec
import numpy as np
import pytest

from service.contract.catalog import Candidate, Catalog
from service.contract.kind import Figures, Kind
from service.forecast.ability import TASKS_SD, learn
from service.forecast.cells import KIND_SD, OWN_SD, grid
from service.forecast.difficulty import SHAPE, solve_rate
from service.forecast.forecaster import Forecaster
from service.forecast.history import OutcomeRow
from service.forecast.learned import Learned
from service.observe.candidates import Interval, intervals

KINDS = ("code", "ask")
CATALOG = Catalog(
    [
        Candidate(
            agent_type="a",
            model=f"m{number}",
            solve_rate=rate,
            kinds={KINDS[0]: Figures(solve_rate=rate), KINDS[1]: Figures(solve_rate=1 - rate)},
        )
        for number, rate in enumerate((0.45, 0.6, 0.7, 0.8))
    ],
    kinds=[Kind(id=kind) for kind in KINDS],
)
WORLDS = 30
OUTCOMES = 240


def a_world(rng: np.random.Generator) -> tuple[dict[tuple[int, int], float], list[OutcomeRow]]:
    """Abilities drawn as the forecast expects them before outcomes: the true strength of each candidate in each kind,
    and outcomes of tasks of both, fewer of the second."""
    expected = grid(CATALOG, SHAPE)
    covariance = expected.covariance(KIND_SD, OWN_SD)
    theta = rng.multivariate_normal(expected.mean.ravel(), covariance).reshape(expected.mean.shape)
    tasks = float(rng.normal(0.0, TASKS_SD))
    truth = {
        (c, k): float(solve_rate(theta[c, k : k + 1], tasks)[0]) for c in range(len(theta)) for k in range(len(KINDS))
    }
    rows: list[OutcomeRow] = []
    for _ in range(OUTCOMES):
        kind, candidate = int(rng.random() < 0.25), int(rng.integers(len(theta)))
        hopeless = rng.random() < SHAPE.unsolvable
        difficulty = 100.0 if hopeless else rng.normal(tasks, SHAPE.sigma)
        solved = bool(rng.random() < 1 / (1 + np.exp(difficulty - theta[candidate, kind])))
        rows.append(OutcomeRow(agent_type="a", model=f"m{candidate}", solved=solved, kind=KINDS[kind]))
    return truth, rows


def width(interval: Interval) -> float:
    """In shares of tasks."""
    return interval.high - interval.low


def test_intervals_hold_what_is_true_about_as_often_as_they_say() -> None:
    """In worlds that are as the forecast expects them, nineteen times in twenty, in each kind; and no wider than that
    needs: half of them lie within half a width of the middle."""
    rng = np.random.default_rng(1)
    inside = dict.fromkeys(KINDS, 0)
    near = total = 0
    for _ in range(WORLDS):
        truth, rows = a_world(rng)
        found = intervals(Forecaster(CATALOG, learn(CATALOG, rows)))
        for (candidate, kind), true in truth.items():
            interval = found[candidate][KINDS[kind]]
            inside[KINDS[kind]] += interval.low <= true <= interval.high
            near += abs(true - (interval.low + interval.high) / 2) < width(interval) / 4
            total += 1
    shares = {kind: count * len(KINDS) / total for kind, count in inside.items()}
    assert all(0.88 <= share <= 1.0 for share in shares.values()), shares
    assert 0.45 < near / total < 0.85


def test_a_kind_with_outcomes_is_known_better_than_one_without() -> None:
    """What is learned in one kind says something of the others, but less."""
    rows = [
        OutcomeRow(agent_type="a", model="m1", solved=number % 3 > 0, kind=KINDS[0], task=str(number))
        for number in range(200)
    ]
    before, after = intervals(Forecaster(CATALOG))[1], intervals(Forecaster(CATALOG, learn(CATALOG, rows)))[1]
    assert width(after[KINDS[0]]) < 0.6 * width(before[KINDS[0]])
    assert width(after[KINDS[0]]) < 0.7 * width(after[KINDS[1]]) < 0.7 * width(before[KINDS[1]])
    assert width(after[None]) < width(before[None])


def test_a_catalog_without_kinds_has_intervals_too() -> None:
    """Around what is learned, over all tasks."""
    plain = Catalog(Candidate(agent_type="a", model=f"m{number}", solve_rate=0.5) for number in range(2))
    rows = [OutcomeRow(agent_type="a", model="m0", solved=True, task=str(number)) for number in range(30)]
    forecaster = Forecaster(plain, learn(plain, rows))
    (first, second), (known, unknown) = forecaster.abilities(), intervals(forecaster)
    assert set(known) == set(unknown) == {None}
    assert known[None].low < first.learned_solve_rate < known[None].high
    assert unknown[None].low < second.learned_solve_rate < unknown[None].high
    assert width(known[None]) < width(unknown[None])


def test_what_an_older_release_learned_has_no_intervals() -> None:
    """It did not say how well it knew: nothing is made up until it is learned anew."""
    learned = learn(CATALOG, [OutcomeRow(agent_type="a", model="m1", solved=True, kind=KINDS[0])])
    known = learned.abilities["a", "m1"]
    kinds = {kind: msgspec.structs.replace(cell, sd=None) for kind, cell in known.kinds.items()}
    older = msgspec.structs.replace(
        learned, abilities={**learned.abilities, ("a", "m1"): msgspec.structs.replace(known, sd=None, kinds=kinds)}
    )
    read = Learned.from_bytes(older.to_bytes())
    assert read.abilities == older.abilities
    found = intervals(Forecaster(CATALOG, read))
    assert found[1] == {}
    assert found[0][None].low == pytest.approx(intervals(Forecaster(CATALOG, learned))[0][None].low)
