"""Trying what nobody tries: within its allowance, with an exact propensity, and never against what a caller said."""

import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from service.contract.catalog import Candidate, Catalog
from service.contract.outcome import Outcome
from service.core import Core
from service.decide.exploring import Allowance, Explorer
from service.forecast.ability import learn
from service.forecast.draws import drawn_forecasters
from service.forecast.forecaster import Forecaster
from service.forecast.history import OutcomeRow
from service.forecast.stakes import Stakes
from tests.support.builders import failed, task
from tests.support.http_fixtures import settings_from
from tests.support.rasch_world import World

NOW = datetime(2026, 1, 2, 23, tzinfo=UTC)
TRUE = (0.45, 0.6, 0.5, 0.72, 0.9)
COST_USD = (0.2, 0.22, 0.25, 0.3, 0.3)
"""The last one is published by nobody, and solves more than all others."""


def catalog() -> Catalog:
    """Four known models and one of which nothing is known."""
    known = [Candidate(agent_type="any", model=f"m{m}", solve_rate=TRUE[m], cost_usd=COST_USD[m]) for m in range(4)]
    return Catalog([*known, Candidate(agent_type="any", model="m4")])


@asynccontextmanager
async def exploring(usd_per_day: float, seed: int = 0) -> AsyncGenerator[Core]:
    """A service with so much to spend, whose draws are the same each time."""
    core = Core(
        settings_from({"learning": {"explore_usd_per_day": usd_per_day}, "decision": {"cache_seconds": 0}}), environ={}
    )
    core.pipeline.explorer = Explorer(usd_per_day, chance=random.Random(seed))
    try:
        core.use_catalog(catalog())
        await core.store.start()
        await core.learner.catch_up()
        yield core
    finally:
        await core.aclose()


def test_an_allowance_is_for_one_day() -> None:
    """Nothing above it is spent, and what was not spent is not kept for the next day."""
    allowance = Allowance(1.0)
    assert allowance.spend(0.7, NOW)
    assert not allowance.spend(0.4, NOW)
    assert allowance.left(NOW) == pytest.approx(0.3)
    assert allowance.left(NOW + timedelta(hours=2)) == 1.0
    assert not Allowance(0.0).spend(0.01, NOW)


def first_of(world: Any) -> Candidate:  # noqa: ANN401 - a stand-in is its first choice itself
    """The first choice in a stand-in for a world."""
    assert isinstance(world, Candidate)
    return world


def worlds(number: int, first: int) -> list[Any]:
    """Stand-ins that only have a first choice: of `number` worlds, one in `first` has another one."""
    return [catalog().candidates[4 if n % first == 0 else 3] for n in range(number)]


def test_the_propensity_is_the_share_of_worlds_and_of_choices() -> None:
    """Drawn 4,000 times, each choice comes as often as its propensity says."""
    explorer = Explorer(1e6, chance=random.Random(1))
    counts = Counter[str]()
    for _ in range(4000):
        drawn = explorer.draw(worlds(16, 4), first_of, lambda _: 0.01, NOW)
        assert drawn is not None
        assert drawn.propensity == (0.25 if drawn.candidate.model == "m4" else 0.75)
        counts[drawn.candidate.model] += 1
    assert counts["m4"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_what_is_drawn_costs_its_expected_loss() -> None:
    """A quarter of the worlds, $0.40 worse: $0.10 a decision, ten for a dollar, and then none until tomorrow."""
    explorer = Explorer(1.0)
    loss = {"m3": 0.0, "m4": 0.4}

    def draw(now: datetime) -> bool:
        return explorer.draw(worlds(16, 4), first_of, lambda one: loss[one.model], now) is not None

    assert [draw(NOW) for _ in range(12)] == [True] * 10 + [False] * 2
    assert draw(NOW + timedelta(days=1))


def test_nothing_is_drawn_where_all_agree() -> None:
    """It costs nothing then, and the choice is as it would have been."""
    explorer = Explorer(1.0)
    assert explorer.draw(worlds(16, 1), first_of, lambda _: 1.0, NOW) is None
    assert explorer.draw([], first_of, lambda _: 1.0, NOW) is None
    assert explorer.allowance.left(NOW) == 1.0


def test_worlds_are_spread_as_what_is_known() -> None:
    """Abilities differ from world to world by as much as they are uncertain: less after many outcomes."""
    rows = [OutcomeRow(agent_type="any", model="m0", solved=n % 2 > 0) for n in range(2000)]
    learned = learn(catalog(), rows)
    drawn = drawn_forecasters(catalog(), learned, 200)
    theta = np.array([[known.theta for known in world.learned.abilities.values()] for world in drawn])
    spread = theta.std(axis=0)
    assert spread[0] < 0.5
    assert spread[4] > 2 * spread[0]
    assert theta.mean(axis=0)[:4] == pytest.approx([k.theta for k in learned.abilities.values()][:4], abs=0.25)
    again = drawn_forecasters(catalog(), learned, 3)
    assert [w.learned for w in again] == [w.learned for w in drawn[:3]]


async def test_off_by_default() -> None:
    """Nothing is drawn, and every decision says that it was sure to be made."""
    async with exploring(0.0) as core:
        decisions = [await core.decide(task(value_usd=3)) for _ in range(20)]
    assert {(one.explored, one.propensity) for one in decisions} == {(False, 1.0)}


@pytest.mark.parametrize(
    "said",
    [
        {"agent_type": "any", "model": "m0"},
        {"strict": True},
        {"require": {"max_cost_usd": 5}},
        {"attempts": [failed("any", f"m{m}") for m in range(4)]},
    ],
    ids=["pair", "strict", "limit", "only-one"],
)
async def test_never_against_what_the_caller_said(said: dict[str, Any]) -> None:
    """A fixed pair, `strict` and a limit on costs leave nothing to be drawn; nor does a single candidate."""
    async with exploring(100.0) as core:
        decisions = [await core.decide(task(value_usd=3, **said)) for _ in range(20)]
    assert not any(one.explored for one in decisions)


async def test_only_eligible_candidates_are_drawn_and_the_log_tells() -> None:
    """What a caller excludes is never drawn; what was drawn stands in the record with its propensity."""
    async with exploring(100.0) as core:
        excluded = {"exclude": [{"agent_type": "any", "model": "m4"}]}
        decisions = [await core.decide(task(value_usd=3, require=excluded)) for _ in range(30)]
        assert "m4" not in {one.model for one in decisions}
        decisions = [await core.decide(task(value_usd=3)) for _ in range(60)]
        drawn = [one for one in decisions if one.explored]
        assert {one.model for one in drawn} >= {"m4", "m3"}
        assert all(0 < one.propensity < 1 and one.source == "forecast" for one in drawn)
        stored = await core.store.decisions.get(drawn[0].decision_id)
        assert stored is not None
        assert stored.decoded().propensity == drawn[0].propensity
        assert stored.decoded().explored


@pytest.mark.parametrize("seed", [0, 1])
async def test_a_model_that_nobody_published_leads_within_a_hundred_tasks(seed: int) -> None:
    """It solves 0.9 and nothing is known of it: with $1 a day it is tried, and is the first choice by then."""
    world = World(np.random.default_rng(seed), true=TRUE, cost_usd=COST_USD)
    async with exploring(1.0, seed) as core:
        forecaster = core.in_use.knowledge.forecaster
        assert first(forecaster) != "m4"
        for number in range(100):
            await attempt_all(core, world, number)
            if number % 10 == 9:
                await core.learner.catch_up()
        assert first(core.in_use.knowledge.forecaster) == "m4"


def first(forecaster: Forecaster) -> str:
    """Who is tried first on a fresh task."""
    forecast = forecaster.forecast(
        forecaster.catalog.candidates, labels={}, minutes=None, minutes_source="text", attempts=()
    )
    return forecast.plan(Stakes(value_usd=3.0)).steps[0].model


async def attempt_all(core: Core, world: World, number: int) -> None:
    """One task as a scheduler goes through it."""
    difficulty = world.difficulty(1)
    attempts: list[dict[str, str]] = []
    while len(attempts) < len(TRUE):
        decision = await core.decide(task(task_id=f"t{number}", value_usd=3, attempts=attempts))
        if attempts and not decision.worthwhile:
            return
        solved = world.solves(int(decision.model[1:]), difficulty)
        cost = COST_USD[int(decision.model[1:])]
        await core.outcomes.record([Outcome(decision_id=decision.decision_id, solved=solved, cost_usd=cost)])
        if solved:
            return
        attempts.append(failed(decision.agent_type, decision.model))
