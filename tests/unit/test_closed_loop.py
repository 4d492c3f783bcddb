"""A simulated month over HTTP: what a scheduler reports by decision_id teaches what is true."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.support.http_fixtures import OpenApp
from tests.support.rasch_world import Month, World, month

VALUE_USD = 3.0


async def played(open_app: OpenApp, seed: int, tasks: int, true: Sequence[float] | None = None) -> Month:
    """One month in a world of its own."""
    world = World(np.random.default_rng(seed)) if true is None else World(np.random.default_rng(seed), true=tuple(true))
    app = await open_app(catalog_text=world.catalog_text(), decision={"cache_seconds": 0})
    return await month(world, app.client, tasks=tasks, value_usd=VALUE_USD, settled=app.core.learner.catch_up)


async def test_the_plan_stays_as_good_and_as_long_as_that_of_one_who_knows(open_app: OpenApp) -> None:
    """Over several seeds at least 95 % of the worth of the best plan, and as many steps, give or take one.

    The defect it catches: a re-ask's result learned as if it were a first try, so that plans decay to one step.
    """
    shares: list[float] = []
    for seed in range(3):
        told = await played(open_app, seed, 240)
        shares.append(sum(told.worths) / sum(told.best))
        off = np.abs(np.array(told.steps) - np.array(told.best_steps))
        assert np.mean(off <= 1) > 0.95
        assert abs(np.mean(told.steps) - np.mean(told.best_steps)) < 0.8
    assert np.mean(shares) >= 0.95, shares


@pytest.mark.parametrize("seed", [5])
async def test_without_the_context_the_same_reports_teach_what_is_false(
    open_app: OpenApp, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same month with what decisions knew taken away: plans are shorter than they should be."""
    from service.knowledge import learner

    whole = learner.row_of
    linked = await played(open_app, seed, 240)

    def forgetful(recorded: object) -> object:
        row = whole(recorded)  # type: ignore[arg-type]
        return type(row)(agent_type=row.agent_type, model=row.model, solved=row.solved, cost_usd=row.cost_usd)

    monkeypatch.setattr(learner, "row_of", forgetful)
    alone = await played(open_app, seed, 240)
    assert np.mean(alone.steps) < np.mean(linked.steps) - 0.5
