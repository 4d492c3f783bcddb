"""Quota windows, time, a check that errs and second tries, from the request to the decision."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from service.contract.catalog import Candidate, Catalog, Pool
from service.contract.decision import Decision
from service.contract.errors import InvalidInputError, NoCandidateAvailableError, NoEligibleCandidateError
from service.contract.settings import DecisionSettings
from service.contract.task import Task
from service.contract.verifier import Verifier
from service.decide.pipeline import Pipeline
from tests.support.builders import NOW, candidate, failed, knowledge, pipeline, task
from tests.support.scripted_classifier import ScriptedClassifier, chooses


def plan_catalog(billing: Any = "plan", reserve: float = 0.0) -> Catalog:  # noqa: ANN401 - a literal of the catalog
    """One agent under a plan, and one that is paid by the token."""
    return Catalog(
        [
            candidate("claude", "opus", solve_rate=0.75, cost_usd=0.8, quota_pool="anthropic", minutes=12.0),
            candidate("codex", "mini", solve_rate=0.5, cost_usd=0.1, minutes=4.0),
            candidate("codex", "max", solve_rate=0.7, cost_usd=0.6, minutes=20.0),
        ],
        pools={"anthropic": Pool(id="anthropic", billing=billing, reserve=reserve)},
    )


def steps_of(catalog: Catalog, **settings: Any) -> Pipeline:  # noqa: ANN401 - the fields of the settings
    """Decides by the forecast alone."""
    return pipeline(known=knowledge(catalog), settings=DecisionSettings(**settings))


def window(used: float, *, minutes: float = 300, left: float = 150) -> dict[str, Any]:
    """One window that begins anew in so many minutes."""
    return {"minutes": minutes, "used": used, "resets_at": (NOW + timedelta(minutes=left)).isoformat()}


async def decide(catalog: Catalog, **request: Any) -> Decision:  # noqa: ANN401 - the fields of a request
    """The decision for a task with these fields."""
    return await steps_of(catalog).decide(task(**request))


async def test_under_a_plan_an_attempt_takes_what_it_takes_from_others() -> None:
    """A slow pace makes it next to free, an overrun pace dear; its list price stands beside it and is the same."""
    by_use = [
        await decide(
            plan_catalog(), agent_type="claude", model="opus", pools={"anthropic": {"windows": [window(used)]}}
        )
        for used in (0.05, 0.4, 0.8, 0.99)
    ]
    costs = [made.cost_usd for made in by_use]
    assert costs == sorted(costs)
    assert costs[0] < 0.04
    assert costs[-1] > 0.7
    assert len({made.list_cost_usd for made in by_use}) == 1
    assert all(step.list_cost_usd >= step.cost_usd for made in by_use for step in made.plan)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"anthropic": {"windows": []}}, id="no-windows"),
        pytest.param({"anthropic": {"windows": [window(0.1, left=-3)]}}, id="begun-anew-since"),
        pytest.param({"anthropic": {"windows": [window(1.0, left=-0.01)]}}, id="used-up-and-begun-anew"),
    ],
)
async def test_nothing_told_is_list_price(told: dict[str, Any]) -> None:
    """Where nothing is known of what is left, it is never taken for plenty."""
    made = await decide(plan_catalog(), agent_type="claude", model="opus", pools=told)
    assert made.cost_usd == made.list_cost_usd == pytest.approx(0.8, rel=0.05)


async def test_metered_pools_cost_their_list_price() -> None:
    """Windows of a pool that is paid by the token only say when it is used up."""
    for catalog in (plan_catalog("metered"), Catalog(plan_catalog().candidates)):
        made = await decide(catalog, agent_type="claude", model="opus", pools={"anthropic": {"windows": [window(0.1)]}})
        assert made.cost_usd == made.list_cost_usd


async def test_the_tightest_window_counts() -> None:
    """Of several windows the one that is likeliest to be used up makes the price; the explanation names it."""
    windows = [window(0.1), window(0.9, minutes=10080, left=5000)]
    made = await decide(
        plan_catalog(), agent_type="claude", model="opus", pools={"anthropic": {"windows": windows}}, explain=True
    )
    assert made.cost_usd > 0.7
    assert isinstance(made.explanation, dict)
    pool = made.explanation["pools"]["anthropic"]
    assert (pool["window"]["minutes"], pool["window"]["used"]) == (10080, 0.9)
    assert 0 < pool["price"] <= 1
    assert pool["pace"] > 0


async def test_a_pool_that_is_used_up_to_its_reserve_rests() -> None:
    """Its candidates are excluded until the reset; 503 and `wait_until` where nothing else is left."""
    told = {"anthropic": {"windows": [window(0.9, left=40)]}}
    made = await decide(plan_catalog(reserve=0.1), pools=told)
    assert [e.model for e in made.excluded] == ["opus"]
    assert "quota pool anthropic is used up until" in made.excluded[0].why
    assert (
        await decide(plan_catalog(reserve=0.1), pools={"anthropic": {**told["anthropic"], "reserve": 0.0}})
    ).excluded == []
    with pytest.raises(NoCandidateAvailableError) as refused:
        await decide(plan_catalog(reserve=0.1), pools=told, agent_type="claude")
    assert refused.value.wait_until == datetime.fromisoformat(told["anthropic"]["windows"][0]["resets_at"])
    assert 2390 <= refused.value.retry_after_seconds <= 2401


async def test_unknown_pools_are_noted() -> None:
    """A misspelt pool is seen in `failures`, and changes nothing."""
    made = await decide(plan_catalog(), pools={"antropic": {"windows": [window(1.0)]}})
    assert [(f.source, f.problem) for f in made.failures] == [("request", "unknown-pool")]
    assert "antropic" in made.failures[0].detail
    assert made.excluded == []


@pytest.mark.parametrize(
    ("pool", "path"),
    [
        pytest.param({"windows": [{**window(0.5), "used": 1.2}]}, "$.pools.anthropic.windows[0].used", id="over-one"),
        pytest.param({"windows": [window(0.5, minutes=0)]}, "$.pools.anthropic.windows[0].minutes", id="no-length"),
        pytest.param(
            {"windows": [{**window(0.5), "resets_at": "soon"}]}, "$.pools.anthropic.windows[0].resets_at", id="time"
        ),
        pytest.param({"reserve": 1.5}, "$.pools.anthropic.reserve", id="reserve"),
    ],
)
def test_bad_windows_are_told_with_their_place(pool: dict[str, Any], path: str) -> None:
    """Shares over one, windows of length zero, times that are none."""
    from service.contract.decoding import decode_json

    body = msgspec.json.encode({"instructions": "x", "pools": {"anthropic": pool}})
    with pytest.raises(InvalidInputError) as refused:
        decode_json(body, msgspec.json.Decoder(Task))
    assert refused.value.path == path


async def test_clocks_that_differ_do_no_harm() -> None:
    """A reset that is further away than the window is long counts as a window that has just begun."""
    made = await decide(
        plan_catalog(), agent_type="claude", model="opus", pools={"anthropic": {"windows": [window(0.0, left=304)]}}
    )
    assert made.cost_usd < 0.1
    far = {**window(0.5), "resets_at": "9999-12-31T23:59:59-12:00"}
    assert (await decide(plan_catalog(), pools={"anthropic": {"windows": [far]}})).plan


async def test_waiting_needs_a_price() -> None:
    """A better candidate that comes back soon is waited for only where an hour has a price, and only if that pays."""
    catalog = Catalog(
        [candidate("a", "good", solve_rate=0.8, cost_usd=0.3), candidate("b", "poor", solve_rate=0.3, cost_usd=2.0)]
    )
    back = NOW + timedelta(minutes=10)
    request = {"fleet": {"a": {"available_at": back.isoformat()}}, "value_usd": 20}
    free = await decide(catalog, **request)
    assert (free.dispatch, free.not_before, free.model) == ("now", None, "poor")
    cheap = await decide(catalog, **request, delay_usd_per_hour=1)
    assert (cheap.dispatch, cheap.not_before, cheap.model, cheap.source) == ("wait", back, "good", "forecast")
    assert "back at" in cheap.reason
    dear = await decide(catalog, **request, delay_usd_per_hour=500)
    assert (dear.dispatch, dear.not_before, dear.model) == ("now", None, "poor")


async def test_nobody_waits_where_the_first_step_can_begin() -> None:
    """That a later step is not there yet is no reason to put the first one off."""
    back = (NOW + timedelta(minutes=10)).isoformat()
    made = await decide(plan_catalog(), fleet={"claude": {"available_at": back}}, value_usd=50, delay_usd_per_hour=0.1)
    assert (made.dispatch, made.model) == ("now", "mini")


async def test_nobody_waits_for_what_has_no_date_or_was_not_asked_for() -> None:
    """A slot has no date; a pair that the caller fixed is answered for as ever."""
    no_slot = await decide(plan_catalog(), fleet={"claude": {"slots": 0}}, value_usd=50, delay_usd_per_hour=1)
    assert no_slot.dispatch == "now"
    back = (NOW + timedelta(minutes=10)).isoformat()
    fixed = await decide(
        plan_catalog(), agent_type="codex", model="mini", fleet={"claude": {"available_at": back}}, value_usd=50,
        delay_usd_per_hour=1,
    )  # fmt: skip
    assert (fixed.dispatch, fixed.source) == ("now", "requested")


async def test_an_hour_that_costs_prefers_the_quick() -> None:
    """Minutes are told where they are known; with a price of an hour they are part of the plan."""
    patient = await decide(plan_catalog(), value_usd=20)
    hasty = await decide(plan_catalog(), value_usd=20, delay_usd_per_hour=60)
    assert patient.minutes == pytest.approx({"opus": 12.0, "mini": 4.0, "max": 20.0}[patient.model], rel=0.05)
    assert patient.plan_minutes is not None
    assert hasty.plan_minutes is not None
    assert hasty.plan_minutes < patient.plan_minutes
    assert hasty.plan != patient.plan


async def test_without_durations_nothing_changes() -> None:
    """Where no minutes are known they are null, and an hour's price changes no plan."""
    bare = Catalog([msgspec.structs.replace(c, minutes=None) for c in plan_catalog().candidates])
    plain, priced = await decide(bare, value_usd=20), await decide(bare, value_usd=20, delay_usd_per_hour=60)
    assert (plain.minutes, plain.plan_minutes) == (None, None)
    assert plain.plan == priced.plan


async def test_a_check_that_errs_is_part_of_the_plan() -> None:
    """Harm makes fewer attempts worth it; `plan_p_wrong` says how likely accepted wrong work is."""
    plain = await decide(plan_catalog(), value_usd=15)
    assert plain.plan_p_wrong == 0
    perfect = await decide(plan_catalog(), value_usd=15, verifier={"harm_usd": 1000})
    assert perfect.plan == plain.plan
    careful = await decide(plan_catalog(), value_usd=15, verifier={"false_accept": 0.2, "harm_usd": 15})
    assert 0 < careful.plan_p_wrong < 0.2
    assert careful.plan[0].model != "mini"
    hopeless = await decide(plan_catalog(), value_usd=15, verifier={"false_accept": 0.5, "harm_usd": 1_000_000})
    assert (hopeless.worthwhile, len(hopeless.plan)) == (False, 1)


async def test_a_rejection_by_a_check_that_errs_tells_less() -> None:
    """After a failure the chances fall less where right work is often rejected."""
    attempts = [failed("codex", "mini")]
    sure = await decide(plan_catalog(), agent_type="claude", model="opus", attempts=attempts)
    unsure = await decide(
        plan_catalog(), agent_type="claude", model="opus", attempts=attempts, verifier={"false_reject": 0.4}
    )
    fresh = await decide(plan_catalog(), agent_type="claude", model="opus")
    assert sure.p_solve < unsure.p_solve < fresh.p_solve


async def test_settings_speak_where_the_request_does_not() -> None:
    """`[verifier]` and `decision.delay_usd_per_hour` hold for requests that say nothing of them."""
    known = msgspec.structs.asdict(Verifier(false_accept=0.2, harm_usd=15))
    by_request = await decide(plan_catalog(), value_usd=15, verifier=known, delay_usd_per_hour=30)
    from dataclasses import replace

    own = replace(knowledge(plan_catalog()), verifier=Verifier(**known))
    by_settings = await pipeline(known=own, settings=DecisionSettings(delay_usd_per_hour=30)).decide(task(value_usd=15))
    assert by_settings.plan == by_request.plan
    assert by_settings.plan_p_wrong == by_request.plan_p_wrong > 0


async def test_one_candidate_is_tried_once_more() -> None:
    """With one candidate a failure is answered with it again as long as that pays; after two it is 422."""
    only = Catalog([Candidate(agent_type="a", model="m", solve_rate=0.6, cost_usd=0.2)])
    first = await decide(only, value_usd=15)
    assert [step.model for step in first.plan] == ["m", "m"]
    again = await decide(only, value_usd=15, attempts=[failed("a", "m")])
    assert (len(again.plan), again.worthwhile) == (1, True)
    assert again.p_solve == pytest.approx(first.plan[1].p_solve)
    assert again.p_solve < first.p_solve / 3
    assert (await decide(only, value_usd=0.3, attempts=[failed("a", "m")])).worthwhile is False
    with pytest.raises(NoEligibleCandidateError):
        await decide(only, value_usd=15, attempts=[failed("a", "m")] * 2)


async def test_the_forecasts_own_choice_stands_beside_the_classifiers() -> None:
    """What it would have put first, and by how much the choice is worse by its reckoning: nothing where they agree."""
    own = await decide(plan_catalog(), value_usd=15)
    assert own.forecast_choice is not None
    assert (own.forecast_choice.key, own.forecast_choice.loss_usd) == (own.key, 0)
    other = await pipeline(ScriptedClassifier(chooses(2, minutes=None)), known=knowledge(plan_catalog())).decide(
        task(value_usd=15)
    )
    assert (other.source, other.model) == ("local_model", "max")
    assert other.forecast_choice is not None
    assert other.forecast_choice.key == own.key
    lost = 15 * (own.plan_p_solve - other.plan_p_solve) - (own.plan_cost_usd - other.plan_cost_usd)
    assert other.forecast_choice.loss_usd == pytest.approx(lost, abs=1e-6)
    assert other.forecast_choice.loss_usd > 0
