"""Offsets of labels: as wide as the labels of a key differ, and for any number of them."""

import msgspec
import numpy as np
import pytest

from service.contract.catalog import Candidate, Catalog
from service.forecast.ability import learn
from service.forecast.difficulty import GRID, SHAPE, ability, chances, density, solve_rate
from service.forecast.forecaster import Forecaster
from service.forecast.history import History, OutcomeRow, label_digest, label_keys
from service.forecast.label_width import WIDTHS, label_widths
from service.forecast.learned import Learned

RATES = [0.5, 0.6, 0.7, 0.75]
CATALOG = Catalog(
    Candidate(agent_type="any", model=f"m{i}", solve_rate=rate, cost_usd=0.1) for i, rate in enumerate(RATES)
)
THETA = ability(np.array(RATES))


def shift_for(rate: float, model: int) -> float:
    """The mean of difficulty at which a model solves that share."""
    means = np.linspace(-10, 10, 2001)
    return float(means[np.argmin([abs(solve_rate(THETA[[model]], mean)[0] - rate) for mean in means])])


def outcomes(rng: np.random.Generator, shift: float, labels: dict[str, str], name: str) -> OutcomeRow:
    """A first try of one of the models at one task."""
    model = int(rng.integers(len(RATES)))
    difficulty = rng.choice(GRID, p=density(0.0)) + shift
    solved = bool(rng.random() < 1 / (1 + np.exp(difficulty - THETA[model])))
    return OutcomeRow(agent_type="any", model=f"m{model}", solved=solved, labels=labels, task=name)


def forecast(learned: Learned, labels: dict[str, str], model: int) -> float:
    """The chance that a model solves a task with these labels at the first try."""
    forecaster = Forecaster(CATALOG, learned)
    return forecaster.forecast(
        CATALOG.candidates, labels=labels, minutes=None, minutes_source="text", attempts=()
    ).p_solve[model]


@pytest.mark.parametrize("seed", range(3))
def test_a_hopeless_repository_is_found_out_where_repositories_differ(seed: int) -> None:
    """Of twelve repositories from 0.05 to 0.9 with 50 outcomes each, the first is forecast below 0.12."""
    rng = np.random.default_rng(seed)
    rates = np.r_[0.05, np.linspace(0.2, 0.9, 11)]
    shifts: list[float] = [shift_for(float(rate), 2) for rate in rates]
    rows = [
        outcomes(rng, shifts[int(repo)], {"repo": f"r{repo}", "weekday": f"{n % 7}"}, f"{repo}-{n}")
        for n in range(50)
        for repo in rng.permutation(12).tolist()
    ]
    learned = learn(CATALOG, History(rows))
    assert forecast(learned, {"repo": "r0"}, 2) < 0.12
    others = [forecast(learned, {"repo": f"r{repo}"}, 2) for repo in range(1, 12)]
    assert np.abs(np.array(others) - rates[1:]).mean() < 0.1


def test_keys_that_say_nothing_stay_at_nothing() -> None:
    """Thirty values of a key that has nothing to do with difficulty: no forecast moves by more than two points."""
    rng = np.random.default_rng(5)
    rows = [outcomes(rng, 0.0, {"team": f"t{n % 30}", "day": f"{n % 7}"}, str(n)) for n in range(1500)]
    learned = learn(CATALOG, rows)
    plain = forecast(learned, {}, 2)
    for team in range(30):
        assert forecast(learned, {"team": f"t{team}"}, 2) == pytest.approx(plain, abs=0.02)


def test_a_label_counts_among_thousands_of_others() -> None:
    """A value that fails a hundred times is known, though six hundred values of other keys are as frequent."""
    rng = np.random.default_rng(6)
    rows = [
        outcomes(
            rng,
            5.0 if n % 30 == 0 else 0.0,
            {"repo": f"r{n % 30}"} | {f"k{k}": f"{rng.integers(30)}" for k in range(20)},
            str(n),
        )
        for n in range(3000)
    ]
    learned = learn(CATALOG, rows)
    assert len(learned.label_widths) == 21
    assert learned.labels[label_digest("repo", "r0")] > 2.5
    assert forecast(learned, {"repo": "r0"}, 2) < 0.35 < forecast(learned, {"repo": "r1"}, 2)


def test_many_values_of_one_key_are_all_kept() -> None:
    """Two thousand repositories, half of them hard: each one's few outcomes move it, and all get an offset."""
    rng = np.random.default_rng(7)
    rows = [
        outcomes(rng, 6.0 if repo % 2 else -2.0, {"repo": f"r{repo}"}, f"{repo}-{n}")
        for repo in range(1000)
        for n in range(8)
    ]
    learned = learn(CATALOG, rows)
    hard = [learned.labels.get(label_digest("repo", f"r{repo}"), 0.0) for repo in range(1, 1000, 2)]
    easy = [learned.labels.get(label_digest("repo", f"r{repo}"), 0.0) for repo in range(0, 1000, 2)]
    assert np.mean(hard) - np.mean(easy) > 3
    assert np.mean(np.array(hard) > np.median(easy)) > 0.95


def test_widths_are_estimated_by_key() -> None:
    """Values that differ by more than their errors are given room; values that do not, none; each key by itself."""
    rng = np.random.default_rng(8)
    labels = np.sort(
        np.array([label_digest(key, str(n)) for key in ("wide", "none") for n in range(60)], dtype=np.uint64)
    )
    wide = label_keys(labels) == label_keys(np.array([label_digest("wide", "0")], dtype=np.uint64))[0]
    error = np.full(len(labels), 0.6)
    alone = np.where(wide, rng.normal(0, 1.5, len(labels)), 0.0) + rng.normal(0, error)
    widths = label_widths(labels, alone, error**2)
    assert 1.0 <= widths[wide][0] <= 2.0
    assert widths[~wide][0] <= WIDTHS[2]


@pytest.mark.parametrize("shift", [-30.0, -3.0, 0.0, 30.0], ids=str)
def test_catalog_and_classify_say_the_same_of_a_fresh_task(shift: float) -> None:
    """The learned rate is the chance of a task of which nothing is known, at the ends of the scale too."""
    rows = [OutcomeRow(agent_type="any", model=f"m{i % 4}", solved=shift < 0) for i in range(2000 * (abs(shift) > 5))]
    learned = learn(CATALOG, rows)
    far = msgspec.structs.replace(learned, tasks=shift)
    forecaster = Forecaster(CATALOG, far)
    asked = forecaster.forecast(CATALOG.candidates, labels={}, minutes=None, minutes_source="text", attempts=())
    assert [report.learned_solve_rate for report in forecaster.abilities()] == pytest.approx(asked.p_solve, abs=1e-12)
    assert [report.learned_cost_usd for report in forecaster.abilities()] == pytest.approx(asked.cost_usd, rel=1e-9)


def test_chances_stay_strictly_between_nothing_and_certainty() -> None:
    """Whatever labels say, a chance is a chance."""
    assert ((chances(np.array([-12.0, 12.0])) @ density(10.0, SHAPE)) > 0).all()
    assert ((chances(np.array([-12.0, 12.0])) @ density(-10.0, SHAPE)) < 1).all()
