"""`POST /v1/classify/batch`: answers in order, shared fields, and no bad task that fails its neighbours."""

import asyncio
from typing import Any

import pytest

from service.contract.decision import LoggedDecision
from tests.support.fake_behaviours import status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model

BATCH = "/v1/classify/batch"
GOOD = {"instructions": "Fix the login"}


async def results(app: RunningApp, tasks: list[Any], **shared: object) -> list[dict[str, Any]]:
    """The results of a batch that is taken."""
    response = await app.client.post(BATCH, json={"tasks": tasks, **shared})
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["results"]
    found: list[dict[str, Any]] = response.json()["results"]
    return found


async def test_results_come_in_order(plain_app: RunningApp) -> None:
    """A result for each task, in the order of the tasks."""
    models = ["opus", "haiku", "opus", "haiku"]
    answers = await results(plain_app, [{**GOOD, "agent_type": "claude", "model": model} for model in models])
    assert [answer["model"] for answer in answers] == models
    assert len({answer["decision_id"] for answer in answers}) == 4


async def test_one_bad_task_never_fails_its_neighbours(plain_app: RunningApp) -> None:
    """A task that is malformed, cannot be taken or is no object gets its own problem document; the others decide."""
    bad: list[tuple[Any, str, str]] = [
        ({}, "invalid-request", "$.tasks[1].instructions: "),
        (7, "invalid-request", "$.tasks[3]: expected `object`, got `int`"),
        ({**GOOD, "fleet": {"claude": {"slots": "1"}}}, "invalid-request", "$.tasks[5].fleet.claude.slots: "),
        ({**GOOD, "require": {"agent_types": []}}, "no-eligible-candidate", "no candidate"),
        ({**GOOD, "fleet": {a: {"quota_left": 0} for a in ("claude", "gemini")}}, "no-candidate-available", "no "),
    ]
    tasks = [task for entry in bad for task in (GOOD, entry[0])]
    answers = await results(plain_app, tasks)
    assert all("decision_id" in answer for answer in answers[::2])
    for answer, (_, kind, says) in zip(answers[1::2], bad, strict=True):
        assert answer["type"] == f"urn:pointsman:{kind}"
        assert answer["detail"].startswith(says)


UNREADABLE = [
    pytest.param(b'"\\ud800"', "pairs only", id="half-a-surrogate-pair"),
    pytest.param(b'"\\udc00 at the end"', "pairs only", id="the-other-half"),
    pytest.param(b'"\x01"', "invalid character", id="control-character"),
    pytest.param(b'"\xff"', "UTF-8", id="not-utf-8"),
    pytest.param(b"[" * 3000 + b"]" * 3000, "expected `str", id="deep-nesting"),
    pytest.param(b'"a" "b"', "JSON", id="no-comma"),
    pytest.param(b"nope", "JSON", id="no-value"),
    pytest.param(b'"in a string: ]},{ \\" [", "labels": {"\\ud800": ""}', "pairs only", id="brackets-in-a-string"),
]
"""Values of a field that cannot be read as JSON, though the brackets around them are in order."""


@pytest.mark.parametrize(("value", "says"), UNREADABLE)
@pytest.mark.parametrize("field", ["tasks", "outcomes"])
async def test_one_unreadable_item_fails_alone(plain_app: RunningApp, field: str, value: bytes, says: str) -> None:
    """An item that is no JSON fails in its place; its neighbours and what stands beside the list are read."""
    path, key, good = {
        "tasks": (BATCH, b"instructions", b'{"instructions": "x", "labels": {"a": "\\ud83d\\ude00 [{"}}'),
        "outcomes": ("/v1/outcomes/batch", b"model", b'{"agent_type": "claude", "model": "opus", "solved": true}'),
    }[field]
    bad = b'{"%s": %s}' % (key, value)
    body = b'{ "%s" : [%s ,%s,\n%s] }' % (field.encode(), good, bad, good)
    response = await plain_app.client.post(path, content=body)
    assert response.status_code == 200, response.text
    first, second, third = response.json()["results"]
    assert (second["type"], second["status"]) == ("urn:pointsman:invalid-request", 400)
    assert second["detail"].startswith(f"$.{field}[1]")
    assert says in second["detail"]
    assert {"decision_id", "outcome_id"} & set(first) & set(third)


async def test_what_stands_beside_an_unreadable_item_holds(plain_app: RunningApp) -> None:
    """Shared fields are read, before and after the list; so are the limits on the batch itself."""
    bad, good = b'{"instructions": "\\ud800"}', b'{"instructions": "x"}'
    fleet = b'"fleet": {"claude": {"running": 1, "slots": 1}}'
    for body in (b'{%s, "tasks": [%s, %s]}' % (fleet, bad, good), b'{"tasks": [%s, %s], %s}' % (bad, good, fleet)):
        answer = await plain_app.client.post(BATCH, content=body)
        assert answer.json()["results"][1]["agent_type"] == "gemini"
    wrong = [
        (b'{"tasks": [%s]}' % b", ".join([bad] * 101), "$.tasks: expected `array` of length <= 100"),
        (b'{"tasks": [%s], "flet": {}}' % bad, "$.flet: unknown field"),
        (b'{"tasks": [%s,]}' % bad, "expected a JSON document"),
        (b'{"tasks": [%s}' % bad, "expected a JSON document"),
        (b'{"tasks": [%s]' % bad, "expected a JSON document"),
        (b'{"tasks": ["\\ud800', "expected a JSON document"),
    ]
    for body, says in wrong:
        refused = await plain_app.client.post(BATCH, content=body)
        assert (refused.status_code, refused.json()["detail"].startswith(says)) == (400, True), refused.text


async def test_a_single_request_says_what_half_a_pair_is(plain_app: RunningApp) -> None:
    """Not that its end is missing, which is what the decoder says."""
    answer = await plain_app.client.post("/v1/classify", content=rb'{"instructions": "\ud800"}')
    assert answer.status_code == 400
    assert "pairs only" in answer.json()["detail"]


async def test_a_defect_fails_only_its_own_task(plain_app: RunningApp) -> None:
    """A defect that one task meets is an `internal` problem in its place."""

    def broken(logged: LoggedDecision) -> None:
        if logged.name == "bad":
            raise ZeroDivisionError("secret")

    plain_app.core.pipeline.observers = (broken,)
    first, second = await results(plain_app, [{**GOOD, "name": "bad"}, GOOD])
    assert (first["type"], first["status"]) == ("urn:pointsman:internal", 500)
    assert "secret" not in str(first)
    assert "decision_id" in second


async def test_shared_fields_hold_for_those_that_have_none(plain_app: RunningApp) -> None:
    """`fleet` and `objective` at the top hold for each task that does not say otherwise."""
    fleet = {"claude": {"running": 1, "slots": 1}}
    own = {**GOOD, "fleet": {"gemini": {"quota_left": 0}}}
    shared, kept = await results(plain_app, [GOOD, own], fleet=fleet)
    assert shared["agent_type"] == "gemini"
    assert kept["agent_type"] == "claude"
    issue = {**GOOD, "instructions": "The scheduler skips jobs after a clock change; find out why and fix it."}
    dear, cheap = await results(plain_app, [issue, {**issue, "objective": "economy"}], objective="quality")
    assert dear["plan_cost_usd"] > cheap["plan_cost_usd"]


async def test_a_shared_deadline_holds(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """`deadline_ms` at the top is a deadline for the whole batch, counted from its arrival."""
    app = await open_app(local_model=with_model(fake_endpoint, max_concurrency=1))
    fake_endpoint.choose(lambda _: verdict("claude", "opus"))
    fake_endpoint.then(status(503), status(503))
    answers = await results(app, [{"instructions": f"Task {i}"} for i in range(5)], deadline_ms=100)
    assert all(answer["timings_ms"]["total"] < 2000 for answer in answers)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"tasks": []}, "$.tasks"),
        ({"tasks": [GOOD] * 101}, "$.tasks"),
        ({}, "tasks"),
        ({"tasks": {}}, "$.tasks"),
        ({"tasks": [GOOD], "strict": True}, "$.strict"),
        ({"tasks": [GOOD], "deadline_ms": 5}, "$.deadline_ms"),
        ({"tasks": [GOOD], "objective": "x"}, "$.objective"),
        ({"tasks": [GOOD], "fleet": {"claude": {"slots": -1}}}, "$.fleet.claude.slots"),
    ],
    ids=["none", "101", "missing", "no list", "unknown field", "deadline", "objective", "fleet"],
)
async def test_a_batch_that_does_not_fit_is_a_400(plain_app: RunningApp, body: object, says: str) -> None:
    """What is wrong with the batch itself refuses the whole, with the path."""
    response = await plain_app.client.post(BATCH, json=body)
    assert (response.status_code, response.json()["type"]) == (400, "urn:pointsman:invalid-request")
    assert says in response.json()["detail"]


async def test_a_hundred_tasks_are_taken(plain_app: RunningApp) -> None:
    """A batch may have 100 tasks."""
    answers = await results(plain_app, [{"instructions": f"Task {i}"} for i in range(100)])
    assert len({answer["decision_id"] for answer in answers}) == 100


async def test_identical_tasks_of_a_batch_ask_once(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Identical tasks under way at once share one question to the model."""
    app = await open_app(local_model=with_model(fake_endpoint))
    fake_endpoint.always(verdict("claude", "opus"))
    answers = await results(app, [GOOD] * 10)
    assert {answer["source"] for answer in answers} == {"local_model"}
    assert len(fake_endpoint.chats) == 1


async def test_a_batch_lets_others_have_their_turn(plain_app: RunningApp) -> None:
    """While a hundred tasks are decided the event loop goes round many times: catches a batch that keeps probes and
    other callers waiting until its last task is done."""
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await plain_app.client.post("/v1/classify/batch", json={"tasks": [{"instructions": "a"}]})
    alone, turns = turns, 0
    tasks = [{"instructions": f"Fix page {number}"} for number in range(100)]
    response = await plain_app.client.post("/v1/classify/batch", json={"tasks": tasks})
    watching.cancel()
    assert len(response.json()["results"]) == 100
    assert turns >= alone + 20
