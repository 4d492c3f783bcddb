"""`POST /v1/classify`: each field of the answer, each way to a decision, and each refusal, over HTTP."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from tests.support.fake_behaviours import answer, hang, prose, status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model

FIELDS = [
    *("decision_id", "agent_type", "model", "effort", "kind", "dispatch", "not_before", "reason", "source"),
    *("degraded", "failures", "confidence", "explored", "propensity", "p_solve", "cost_usd", "list_cost_usd"),
    *(
        "minutes",
        "plan",
        "plan_p_solve",
        "plan_p_wrong",
        "plan_cost_usd",
        "plan_minutes",
        "forecast_choice",
        "worthwhile",
        "excluded",
    ),
    *("usage", "timings_ms", "versions", "cached"),
]
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
async def model_app(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> RunningApp:
    """A service whose classifier is the fake endpoint; nothing is remembered between requests."""
    return await open_app(local_model=with_model(fake_endpoint), decision={"cache_seconds": 0})


async def test_the_answer_has_the_contracts_fields(plain_app: RunningApp) -> None:
    """A decision has each field of the contract, of its type and within its range, and no other."""
    response = await plain_app.classify(require={"agent_types": ["claude"]})
    decision = response.json()
    assert list(decision) == FIELDS
    assert UUID7.fullmatch(decision["decision_id"])
    assert (decision["agent_type"], decision["model"]) in {("claude", "opus"), ("claude", "haiku")}
    assert 0 < len(decision["reason"]) <= 500
    assert decision["source"] == "forecast"
    assert (decision["degraded"], decision["failures"], decision["cached"]) == (False, [], False)
    assert decision["confidence"] is None
    assert 0 < decision["p_solve"] < 1
    assert decision["cost_usd"] > 0
    assert decision["worthwhile"] is True
    assert [(pair["agent_type"], pair["model"]) for pair in decision["excluded"]] == [("gemini", "flash")]
    assert decision["excluded"][0]["why"]
    assert decision["usage"] == {"tokens_in": 0, "tokens_out": 0, "cost_usd": 0.0}
    assert decision["timings_ms"]["total"] > 0
    assert set(decision["versions"]) == {"catalog", "prompt", "service"}


async def test_the_plan_begins_with_the_choice(plain_app: RunningApp) -> None:
    """The plan's first step is the choice, no pair stands in it twice, and the totals follow from the steps."""
    decision = await plain_app.decide(objective="quality")
    plan = decision["plan"]
    assert len(plan) > 1
    assert {key: plan[0][key] for key in ("agent_type", "model", "p_solve", "cost_usd")} == {
        key: decision[key] for key in ("agent_type", "model", "p_solve", "cost_usd")
    }
    assert len({(step["agent_type"], step["model"]) for step in plan}) == len(plan)
    failed, cost = 1.0, 0.0
    for step in plan:
        cost += failed * step["cost_usd"]
        failed *= 1 - step["p_solve"]
    assert decision["plan_p_solve"] == pytest.approx(1 - failed)
    assert decision["plan_cost_usd"] == pytest.approx(cost)


async def test_the_headers_say_it_too(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """What matters to a shell script stands in headers, and says the same as the body."""
    fake_endpoint.then(verdict("claude", "opus"), status(500))
    for expected in ("false", "true"):
        response = await model_app.classify()
        decision = response.json()
        assert response.headers["x-decision-id"] == decision["decision_id"]
        assert response.headers["x-decision-source"] == decision["source"]
        assert response.headers["x-decision-degraded"] == expected == str(decision["degraded"]).lower()
        assert response.headers["content-type"] == "application/json"


async def test_the_local_model_chooses(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """The model's valid verdict is the choice, with its reason, its confidence and what it cost."""
    fake_endpoint.then(verdict("claude", "haiku", reason="Small and clear.", confidence=0.75))
    decision = await model_app.decide()
    assert (decision["agent_type"], decision["model"], decision["source"]) == ("claude", "haiku", "local_model")
    assert (decision["reason"], decision["confidence"]) == ("Small and clear.", 0.75)
    assert (decision["degraded"], decision["failures"]) == (False, [])
    assert decision["usage"] == {"tokens_in": 10, "tokens_out": 5, "cost_usd": 0.0}
    assert decision["timings_ms"]["local_model"] > 0


@pytest.mark.parametrize(
    "reply",
    [
        '```json\n{"agent_type": "claude", "model": "opus"}\n```',
        'Sure! {"agent_type": "claude", "model": "opus"} Have a nice day.',
        '<think>{"agent_type": "gemini"}</think>{"agent_type": "claude", "model": "opus"}',
    ],
    ids=["fenced", "in prose", "after thoughts"],
)
async def test_a_wrapped_verdict_is_a_good_one(model_app: RunningApp, fake_endpoint: FakeEndpoint, reply: str) -> None:
    """A reply that is fenced or wrapped in prose but holds one valid object is read, and counts as a good one."""
    fake_endpoint.then(answer(reply))
    decision = await model_app.decide()
    assert (decision["agent_type"], decision["model"], decision["degraded"]) == ("claude", "opus", False)


HOSTILE_REASONS = {
    "escape sequences": "\x1b[31mred\x1b[0m\x1b]0;owned\x07 text",
    "line breaks": "one\ntwo\r\nthree\u2028four",
    "bidirectional": "\u202etxet\u202c \u200b\ufeff",
    "NUL": "a\0b",
    "long": "word " * 1000,
    "C1": "\x9b31mred",
}


@pytest.mark.parametrize("reason", HOSTILE_REASONS.values(), ids=HOSTILE_REASONS)
async def test_a_reason_is_one_clean_sentence(model_app: RunningApp, fake_endpoint: FakeEndpoint, reason: str) -> None:
    """A reason has at most 500 characters and no control characters, whatever the model wrote."""
    fake_endpoint.then(verdict("claude", "opus", reason=reason))
    shown = (await model_app.decide())["reason"]
    assert 0 < len(shown) <= 500
    assert shown.isprintable()


async def test_a_model_cannot_choose_what_is_not_eligible(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """A verdict outside the eligible set never reaches a caller: it is told back once, then the forecast chooses."""
    fake_endpoint.always(verdict("claude", "opus"))
    decision = await model_app.decide(require={"exclude": [{"agent_type": "claude", "model": "opus"}]})
    assert (decision["agent_type"], decision["model"]) != ("claude", "opus")
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
    assert [failure["problem"] for failure in decision["failures"]] == ["ineligible-candidate"]
    assert len(fake_endpoint.chats) == 2
    assert decision["usage"]["tokens_in"] == 20


async def test_a_failed_model_degrades_the_decision(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """Where the model fails the forecast answers, says so, and the reason still speaks of the choice."""
    fake_endpoint.always(status(500, "the sky fell"))
    decision = await model_app.decide()
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
    [failure] = decision["failures"]
    assert (failure["source"], failure["problem"]) == ("local_model", "http-500")
    assert "500" in failure["detail"]
    assert "sky" not in decision["reason"]
    assert decision["model"] in decision["reason"]


async def test_a_fixed_pair_is_not_classified(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """A registered agent type with one of its models skips classification; the plan goes on with other pairs."""
    decision = await model_app.decide(agent_type="claude", model="haiku", objective="quality")
    assert (decision["agent_type"], decision["model"], decision["source"]) == ("claude", "haiku", "requested")
    assert any(step["agent_type"] == "gemini" or step["model"] == "opus" for step in decision["plan"][1:])
    assert fake_endpoint.chats == []


async def test_a_fixed_agent_lets_its_models_compete(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """A registered agent type without a model is classified among that agent's models."""
    fake_endpoint.then(verdict("claude", "opus"))
    decision = await model_app.decide(agent_type="claude")
    assert (decision["source"], decision["model"]) == ("local_model", "opus")
    assert {pair["agent_type"] for pair in decision["excluded"]} == {"gemini", "local"}


async def test_an_unknown_agent_is_noted(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """An unregistered agent type is no error: it is noted, every agent competes, and nothing is degraded."""
    fake_endpoint.then(verdict("gemini", "flash"))
    decision = await model_app.decide(agent_type="emacs", model="psychotherapist")
    assert (decision["source"], decision["agent_type"], decision["degraded"]) == ("local_model", "gemini", False)
    assert [failure["problem"] for failure in decision["failures"]] == ["unknown-agent-type"]
    assert "emacs" in decision["failures"][0]["detail"]


async def test_an_only_candidate_is_not_classified(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """Where one candidate is left nobody has to be asked."""
    decision = await model_app.decide(require={"inputs": ["pdf"]})
    assert (decision["source"], decision["model"]) == ("only_candidate", "flash")
    assert fake_endpoint.chats == []


async def test_an_identical_request_is_cached(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """The same request moments later takes the same verdict, says so, has its own id and costs nothing."""
    app = await open_app(local_model=with_model(fake_endpoint))
    fake_endpoint.always(verdict("claude", "opus"))
    first, second = await app.decide(task_id="a"), await app.decide(task_id="b")
    assert (first["cached"], second["cached"]) == (False, True)
    assert second["model"] == first["model"]
    assert second["decision_id"] != first["decision_id"]
    assert second["usage"] == {"tokens_in": 0, "tokens_out": 0, "cost_usd": 0.0}
    assert len(fake_endpoint.chats) == 1


async def test_an_explanation_comes_on_request(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """With `explain` the answer has the rendered prompt, the raw reply, abilities and difficulty; without, no field."""
    fake_endpoint.always(verdict("claude", "opus"))
    explanation = (await model_app.decide("Fix the flux capacitor", explain=True))["explanation"]
    assert "Fix the flux capacitor" in explanation["prompt"]
    assert '"opus"' in explanation["reply"]
    assert "claude" in explanation["system_prompt"]
    assert {"difficulty", "candidates"} <= set(explanation["forecast"])
    assert "explanation" not in await model_app.decide()


UNTAKABLE: dict[str, dict[str, Any]] = {
    "no such input": {"require": {"inputs": ["audio"], "agent_types": ["claude"]}},
    "too much context": {"require": {"context_tokens": 10**12}},
    "nothing allowed": {"require": {"agent_types": []}},
    "no local agent": {"require": {"local_only": True}},
    "too cheap": {"require": {"max_cost_usd": 0}},
    "all failed": {
        "attempts": [
            {"agent_type": agent, "model": model, "result": "failed"}
            for agent, model in (("claude", "opus"), ("claude", "haiku"), ("gemini", "flash"))
        ]
    },
    "no such model": {"agent_type": "claude", "model": "gpt-5.4"},
    "requested pair excluded": {
        "agent_type": "claude",
        "model": "opus",
        "require": {"exclude": [{"agent_type": "claude"}]},
    },
}


@pytest.mark.parametrize("fields", UNTAKABLE.values(), ids=UNTAKABLE)
async def test_what_nothing_can_take_is_a_422(plain_app: RunningApp, fields: dict[str, Any]) -> None:
    """Where nothing can ever take the task the answer is `no-eligible-candidate`, and `excluded` says why."""
    response = await plain_app.classify(**fields)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (422, "urn:pointsman:no-eligible-candidate")
    assert response.headers["content-type"] == "application/problem+json"
    assert "retry-after" not in response.headers
    assert all(pair["why"] for pair in problem["excluded"])
    if fields.get("model") != "gpt-5.4":
        assert problem["excluded"]


SOON = datetime.now(UTC) + timedelta(hours=10)
UNAVAILABLE: dict[str, tuple[dict[str, Any], bool]] = {
    "no slots": ({agent: {"running": 1, "slots": 1} for agent in ("claude", "gemini")}, False),
    "no quota": ({agent: {"quota_left": 0} for agent in ("claude", "gemini")}, False),
    "paused": ({agent: {"available_at": SOON.isoformat()} for agent in ("claude", "gemini")}, True),
}


@pytest.mark.parametrize(("fleet", "told"), UNAVAILABLE.values(), ids=UNAVAILABLE)
async def test_what_nothing_can_take_now_is_a_503(plain_app: RunningApp, fleet: dict[str, Any], told: bool) -> None:
    """Where something could, but not now, it is `no-candidate-available` with Retry-After and `wait_until` or null."""
    response = await plain_app.classify(fleet=fleet)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (503, "urn:pointsman:no-candidate-available")
    assert len(problem["excluded"]) == 3
    seconds = int(response.headers["retry-after"])
    if told:
        assert datetime.fromisoformat(problem["wait_until"]) == SOON
        assert 35_000 <= seconds <= 36_000
    else:
        assert problem["wait_until"] is None
        assert 1 <= seconds <= 60


async def test_a_requested_pair_that_is_busy_is_a_503(plain_app: RunningApp) -> None:
    """A requested pair that is not available now is a 503 that names it, although others are free."""
    fleet = {"claude": {"available_at": SOON.isoformat()}}
    response = await plain_app.classify(agent_type="claude", model="opus", fleet=fleet)
    assert response.status_code == 503
    assert "claude/opus" in response.json()["detail"]


async def test_strict_turns_a_failure_into_a_502(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """With `strict` a classifier that failed is a `classifier-failed` problem with its failures."""
    fake_endpoint.always(prose())
    response = await model_app.classify(strict=True)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (502, "urn:pointsman:classifier-failed")
    assert [failure["problem"] for failure in problem["failures"]] == ["no-json"]


async def test_strict_turns_a_timeout_into_a_504(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """With `strict` a deadline that ran out is a `deadline-exceeded` problem."""
    fake_endpoint.always(hang())
    response = await model_app.classify(strict=True, deadline_ms=150)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (504, "urn:pointsman:deadline-exceeded")
    assert problem["failures"][0]["source"] == "local_model"


async def test_strict_without_a_classifier_is_the_forecasts(plain_app: RunningApp) -> None:
    """With `strict` and nothing configured the forecast is no fall-back, and answers."""
    decision = await plain_app.decide(strict=True)
    assert (decision["source"], decision["degraded"]) == ("forecast", False)


async def test_a_silent_model_does_not_hold_the_answer(model_app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """A model that never answers costs the deadline and no more."""
    fake_endpoint.always(hang())
    decision = await asyncio.wait_for(model_app.decide(deadline_ms=200), 5)
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
    assert decision["failures"][0]["problem"] == "timeout"
    assert decision["timings_ms"]["total"] < 1000


async def test_too_many_in_flight_is_a_503(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Beyond `max_in_flight` waiting decisions a further one is `overloaded`, with Retry-After; the others go on."""
    app = await open_app(local_model=with_model(fake_endpoint), server={"max_in_flight": 2})
    fake_endpoint.always(hang())
    waiting = [asyncio.create_task(app.classify(f"Task {i}", deadline_ms=1500)) for i in range(2)]
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.chats) == 2)
    response = await app.classify("Task 3", deadline_ms=1500)
    assert (response.status_code, response.json()["type"]) == (503, "urn:pointsman:overloaded")
    assert int(response.headers["retry-after"]) >= 1
    assert (await app.classify(agent_type="claude", model="opus")).status_code == 200
    assert [(await task).status_code for task in waiting] == [200, 200]


class _DefectError(Exception):
    """What no code here expects."""


async def test_a_defect_is_a_500_without_its_text(plain_app: RunningApp, capfd: pytest.CaptureFixture[str]) -> None:
    """A defect is an `internal` problem; neither the answer nor the log holds the exception's own message."""

    def broken(*_: object, **__: object) -> NoReturn:
        raise _DefectError("secret task text")

    plain_app.core.pipeline.observers = (broken,)
    response = await plain_app.classify()
    problem = response.json()
    assert (response.status_code, problem["type"]) == (500, "urn:pointsman:internal")
    assert "secret" not in response.text
    assert problem["request_id"] in problem["detail"] or "request id" in problem["detail"]
    logged = "".join(capfd.readouterr())
    assert "_DefectError" in logged
    assert "in broken" in logged
    assert "secret" not in logged
