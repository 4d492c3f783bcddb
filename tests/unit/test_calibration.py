"""What the forecast promised against what became of it, as an operator can plot it."""

from typing import Any

import pytest

from service.base.ids import uuid7
from service.contract.outcome import Context, Outcome, RecordedOutcome
from service.knowledge.calibration import Calibration
from tests.support.builders import NOW
from tests.support.fake_behaviours import answer, status
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model


async def figures(app: RunningApp) -> dict[str, float]:
    """The metrics of the forecast."""
    lines = (await app.client.get("/metrics")).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


async def report(app: RunningApp, **fields: object) -> None:
    """Records an outcome."""
    assert (await app.client.post("/v1/outcomes", json=fields)).status_code in (200, 201)


def step(decision: dict[str, Any], number: int) -> dict[str, Any]:
    """The pair of a step of the plan, as an outcome names it."""
    planned = decision["plan"][number]
    return {
        "decision_id": decision["decision_id"],
        "agent_type": planned["agent_type"],
        "model": planned["model"],
        "attempt": number + 1,
    }


async def test_attempts_are_compared_with_their_steps(plain_app: RunningApp) -> None:
    """Each attempt counts with the chance that its own step was given: expected and observed solves, and the squared
    error, of which the Brier score is made.
    """
    decision = await plain_app.decide()
    first, second = decision["plan"][0]["p_solve"], decision["plan"][1]["p_solve"]
    await report(plain_app, **step(decision, 0), solved=False)
    await report(plain_app, **step(decision, 1), solved=True)
    found = await figures(plain_app)
    assert found['pointsman_forecast_p_solve_count{solved="false"}'] == 1
    assert found['pointsman_forecast_p_solve_sum{solved="false"}'] == pytest.approx(first)
    assert found['pointsman_forecast_p_solve_sum{solved="true"}'] == pytest.approx(second)
    assert found["pointsman_forecast_squared_error_total"] == pytest.approx(first**2 + (1 - second) ** 2)
    for number, observed in enumerate((0, 1)):
        planned = decision["plan"][number]
        pair = f'{{agent_type="{planned["agent_type"]}",model="{planned["model"]}"}}'
        assert found[f"pointsman_forecast_expected_solves_total{pair}"] == pytest.approx(planned["p_solve"])
        assert found[f"pointsman_forecast_observed_solves_total{pair}"] == observed


async def test_what_was_not_promised_is_not_compared(plain_app: RunningApp) -> None:
    """Outcomes without a decision, of an unknown one, of a pair that its plan has not, and the same ones again do not
    count, and make no series.
    """
    decision = await plain_app.decide()
    pair = {"agent_type": "claude", "model": "opus", "solved": True}
    await report(plain_app, **pair)
    await report(plain_app, **pair, decision_id="not-a-uuid")
    await report(plain_app, **pair, decision_id=uuid7())
    other = {"decision_id": decision["decision_id"], "agent_type": "hostile", "model": "hostile", "solved": True}
    await report(plain_app, **other)
    found = await figures(plain_app)
    assert not [name for name in found if name.startswith("pointsman_forecast_p_solve_count")]
    assert not [name for name in found if "hostile" in name]
    for _ in range(3):
        await report(plain_app, **{**step(decision, 0), "attempt": 2}, solved=True)
    found = await figures(plain_app)
    assert found['pointsman_forecast_p_solve_count{solved="true"}'] == 1


def told(
    solved: bool, *, failed: int = 0, kind: str | None = None, number: int = 0, pair: tuple[str, str] = ("a", "m")
) -> RecordedOutcome:
    """An outcome of a decision that promised 0.6 after so many failures."""
    context = Context(
        agent_type="a", model="m", failed=[("a", f"x{i}") for i in range(failed)], plan=[("a", "m", 0.6)], kind=kind
    )
    return RecordedOutcome(
        seq=number,
        outcome_id=f"o{number}",
        recorded_at=NOW,
        withdrawn_at=None,
        outcome=Outcome(agent_type=pair[0], model=pair[1], solved=solved, decision_id="d"),
        context=context,
    )


def test_said_and_seen_stand_by_pair_kind_and_failures() -> None:
    """Three failures and more stand together; an outcome of a pair that was not planned does not count."""
    calibration = Calibration()
    for number, failed in enumerate((0, 0, 1, 3, 7)):
        calibration.take(told(failed > 0, failed=failed, kind="testing" if failed == 1 else None, number=number))
    calibration.take(told(True, pair=("a", "other")))
    found = [(one.kind, one.failures, one.n, round(one.expected, 6), one.observed) for one in calibration.rows()]
    assert found == [("", 0, 2, 1.2, 0), ("", 3, 2, 1.2, 2), ("testing", 1, 1, 0.6, 1)]


def test_what_is_withdrawn_is_taken_back_from_it() -> None:
    """Afterwards it is as if the outcome had never been, and no empty row stays."""
    calibration = Calibration()
    calibration.take(told(True))
    before = calibration.rows()
    calibration.take(told(False, number=1))
    calibration.take(told(False, number=2, failed=2))
    calibration.take(told(False, number=1), back=True)
    calibration.take(told(False, number=2, failed=2), back=True)
    assert [one.n for one in calibration.rows()] == [one.n for one in before] == [1]
    assert Calibration(calibration.rows()).rows() == calibration.rows()


async def test_tokens_of_a_failure_count_also_where_no_decision_comes_of_it(
    open_app: OpenApp, fake_endpoint: FakeEndpoint
) -> None:
    """With `strict` a useless reply is a 502, and its tokens and the failure are counted all the same."""
    app = await open_app(local_model=with_model(fake_endpoint))
    fake_endpoint.always(answer("no JSON", usage=(70, 30)))
    assert (await app.classify(strict=True)).status_code == 502
    found = await figures(app)
    assert found['pointsman_classifying_tokens_total{direction="in"}'] == 140, "the question and one repair"
    assert found['pointsman_classifying_tokens_total{direction="out"}'] == 60
    assert found['pointsman_classifier_failures_total{classifier="local_model",problem="no-json"}'] == 1


async def test_a_shared_failure_counts_once_and_a_resting_classifier_is_told_of(
    open_app: OpenApp, fake_endpoint: FakeEndpoint
) -> None:
    """A call that fails counts as one failure; decisions made while the breaker is open count as `resting`."""
    app = await open_app(local_model=with_model(fake_endpoint), decision={"cache_seconds": 0})
    fake_endpoint.always(status(500))
    for number in range(5):
        await app.decide(f"task {number}")
    found = await figures(app)
    assert found['pointsman_classifier_failures_total{classifier="local_model",problem="http-500"}'] == 3
    assert found['pointsman_classifier_failures_total{classifier="local_model",problem="resting"}'] == 2
    assert found['pointsman_breaker_state{classifier="local_model"}'] == 2
    assert found["pointsman_decisions_degraded_total"] == 5


async def test_problems_are_there_before_the_first(plain_app: RunningApp) -> None:
    """Every kind of problem has its series from the start, so that a rate shows the first one; a batch's count too."""
    before = await figures(plain_app)
    kinds = [name for name in before if name.startswith("pointsman_problems_total")]
    assert len(kinds) == 14
    assert {before[kind] for kind in kinds} == {0}
    tasks = [{"instructions": "x"}, {"instructions": ""}, {"instructions": "x", "require": {"agent_types": ["none"]}}]
    await plain_app.client.post("/v1/classify/batch", json={"tasks": tasks})
    after = await figures(plain_app)
    counted = {kind.partition('"urn:pointsman:')[2].rstrip('"}') for kind in kinds if after[kind] == 1}
    assert counted == {"invalid-request", "no-eligible-candidate"}
