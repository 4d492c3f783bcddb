"""How far a classifier's choice moves the chances, and how outcomes teach it."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.forecast.leaning import (
    FIRST_WEIGHT,
    MAX_LEAN,
    REMEMBERED,
    WEIGHT_SD,
    Tried,
    Weight,
    in_logits,
    leans_of_choice,
    leans_of_shares,
    learn_weight,
)
from tests.support.builders import knowledge

KEYS = [("a", str(number)) for number in range(6)]


def simulated(weight: float, count: int, *, seed: int = 2, promise: float = 0.0) -> list[Tried]:
    """Outcomes of a classifier that deserves this weight, of a forecast that is off by `promise` logits."""
    source = random.Random(seed)
    rows: list[Tried] = []
    for _ in range(count):
        logit, lean = source.gauss(0.0, 1.0), source.choice([1.25, -0.5])
        chance = 1 / (1 + math.exp(-(logit + weight * lean + promise)))
        rows.append(Tried(p_forecast=1 / (1 + math.exp(-logit)), lean=lean, solved=source.random() < chance))
    return rows


def test_it_starts_next_to_nothing() -> None:
    """Before any outcome a verdict moves no chance at all."""
    assert learn_weight([]) == Weight(weight=FIRST_WEIGHT, sd=WEIGHT_SD, outcomes=0)
    assert in_logits(leans_of_choice(KEYS[0], KEYS), Weight()) == ()
    assert in_logits(leans_of_choice(KEYS[0], KEYS), Weight(weight=0.01)) == ()


@pytest.mark.parametrize("truth", [0.0, 0.5, 1.0, -0.3])
def test_outcomes_teach_what_it_deserves(truth: float) -> None:
    """From 500 outcomes within two and a half of its own standard errors, which are then small."""
    found = learn_weight(simulated(truth, 500))
    assert abs(found.weight - truth) < 2.5 * found.sd
    assert found.sd < 0.2
    assert found.outcomes == 500


def test_a_forecast_that_promises_too_much_is_not_its_fault() -> None:
    """What is off for everybody goes to the intercept: a worthless classifier gets no weight for it."""
    assert abs(learn_weight(simulated(0.0, 800, promise=-0.6)).weight) < 0.25


def test_hope_shrinks_with_what_is_known() -> None:
    """It is one standard error, so that a new classifier is followed now and then and an old one as it deserves."""
    new, old = Weight(), learn_weight(simulated(0.0, 1500))
    assert new.hopeful.weight - new.weight == WEIGHT_SD
    assert old.hopeful.weight - old.weight == pytest.approx(old.sd)
    assert old.sd < 0.1


def test_only_the_newest_count() -> None:
    """A classifier that turned bad is found out: what was before the newest outcomes is forgotten."""
    rows = simulated(1.0, REMEMBERED) + simulated(-0.5, REMEMBERED, seed=3)
    assert learn_weight(rows).weight < 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_leans_are_finite_whatever_the_shares(shares: list[float]) -> None:
    """Also where one has all of it, or none."""
    keys = [("a", str(number)) for number in range(len(shares))]
    leans = leans_of_shares(dict(zip(keys, shares, strict=True)), [*keys, ("b", "not asked about")])
    assert len(leans) == len(keys) + 1
    assert all(abs(lean) <= MAX_LEAN for lean in leans)
    assert leans[-1] == pytest.approx(min(leans))


def test_the_chosen_one_leads() -> None:
    """A bare choice leans towards it, and away from all others equally; of one candidate nothing can be said."""
    leans = leans_of_choice(KEYS[2], KEYS)
    assert leans[2] > 0 > leans[0]
    assert len(set(leans)) == 2
    assert leans_of_choice(KEYS[0], KEYS[:1]) == (0.0,)


def test_chances_move_and_costs_do_not() -> None:
    """By so many logits at each difficulty; nothing moves where there is nothing to say."""
    known = knowledge()
    forecast = known.forecaster.forecast(
        known.catalog.candidates, labels={}, minutes=None, minutes_source="text", attempts=()
    )
    moved = forecast.swayed((1.0, 0.0, 0.0, 0.0, -1.0))
    assert moved.p_solve[0] > forecast.p_solve[0]
    assert moved.p_solve[1:4] == pytest.approx(forecast.p_solve[1:4])
    assert moved.p_solve[4] < forecast.p_solve[4]
    assert moved.cost_usd == forecast.cost_usd
    assert [one["swayed"] for one in moved.explain()["candidates"]] == [1.0, 0.0, 0.0, 0.0, -1.0]
    assert forecast.swayed(()) is forecast
    assert forecast.swayed((1.0, 0.0, 0.0, 0.0, -1.0)) is moved
