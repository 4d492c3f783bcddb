"""Outcomes over HTTP: recorded once, refused where they contradict, withdrawn, and learned from."""

import asyncio
from typing import Any

import pytest

from service.base.ids import uuid7
from tests.support.http_fixtures import RunningApp

OUTCOMES = "/v1/outcomes"


def an_outcome(**fields: object) -> dict[str, Any]:
    """An outcome as a scheduler reports one."""
    return {"agent_type": "claude", "model": "opus", "solved": True, "cost_usd": 0.5, **fields}


async def test_a_new_outcome_is_a_201(plain_app: RunningApp) -> None:
    """A new outcome is created and has an id."""
    response = await plain_app.client.post(OUTCOMES, json=an_outcome(decision_id=uuid7()))
    assert response.status_code == 201
    assert list(response.json()) == ["outcome_id"]


async def test_the_same_again_is_a_200(plain_app: RunningApp) -> None:
    """The same outcome of the same attempt again is a no-op with the same id, however often."""
    body = an_outcome(decision_id=uuid7())
    first, *others = [await plain_app.client.post(OUTCOMES, json=body) for _ in range(3)]
    assert [other.status_code for other in others] == [200, 200]
    assert {other.json()["outcome_id"] for other in others} == {first.json()["outcome_id"]}


async def test_another_for_the_same_attempt_is_a_409(plain_app: RunningApp) -> None:
    """A different outcome of the same attempt is a `conflict`; one of another attempt is not."""
    decision_id = uuid7()
    await plain_app.client.post(OUTCOMES, json=an_outcome(decision_id=decision_id))
    response = await plain_app.client.post(OUTCOMES, json=an_outcome(decision_id=decision_id, solved=False))
    assert (response.status_code, response.json()["type"]) == (409, "urn:pointsman:conflict")
    assert decision_id in response.json()["detail"]
    second = an_outcome(decision_id=decision_id, solved=False, attempt=2)
    assert (await plain_app.client.post(OUTCOMES, json=second)).status_code == 201


async def test_without_a_decision_each_is_new(plain_app: RunningApp) -> None:
    """History from before has no decision, and every line of it counts."""
    ids = {(await plain_app.client.post(OUTCOMES, json=an_outcome())).json()["outcome_id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"solved": "yes"}, "$.solved"),
        ({"solved": None}, "$.solved"),
        ({"cost_usd": -1}, "$.cost_usd"),
        ({"cost_usd": 1e9}, "$.cost_usd"),
        ({"attempt": 0}, "$.attempt"),
        ({"tokens_in": 1.5}, "$.tokens_in"),
        ({"duration_seconds": -0.1}, "$.duration_seconds"),
        ({"labels": {"": "x"}}, "$.labels"),
        ({"result": "failed"}, "$.result: unknown field"),
        ({"decision_id": ""}, "$.decision_id"),
    ],
    ids=["solved", "no solved", "cost", "dear", "attempt", "tokens", "duration", "labels", "unknown", "decision"],
)
async def test_what_does_not_fit_is_a_400(plain_app: RunningApp, fields: dict[str, Any], says: str) -> None:
    """A field that does not fit is named, and nothing is recorded."""
    response = await plain_app.client.post(OUTCOMES, json=an_outcome(**fields))
    assert response.status_code == 400
    assert response.json()["detail"].startswith(says)


async def test_a_batch_answers_in_order(plain_app: RunningApp) -> None:
    """Each outcome of a batch is recorded, refused or in conflict by itself, in order."""
    decision_id = uuid7()
    batch = [
        an_outcome(decision_id=decision_id),
        an_outcome(solved="x"),
        an_outcome(decision_id=decision_id),
        an_outcome(decision_id=decision_id, solved=False),
        7,
        an_outcome(model="haiku"),
    ]
    response = await plain_app.client.post(f"{OUTCOMES}/batch", json={"outcomes": batch})
    assert response.status_code == 200
    first, wrong, same, conflict, no_object, other = response.json()["results"]
    assert first == same
    assert wrong["detail"].startswith("$.outcomes[1].solved: ")
    assert conflict["type"] == "urn:pointsman:conflict"
    assert no_object["detail"].startswith("$.outcomes[4]: ")
    assert other["outcome_id"] != first["outcome_id"]


@pytest.mark.parametrize("number", [0, 1001])
async def test_a_batch_has_1_to_1000(plain_app: RunningApp, number: int) -> None:
    """A batch that is empty or too long is refused as a whole."""
    response = await plain_app.client.post(f"{OUTCOMES}/batch", json={"outcomes": [an_outcome()] * number})
    assert response.status_code == 400


async def test_a_batch_of_bad_ones_is_answered(plain_app: RunningApp) -> None:
    """A batch in which nothing fits is a 200 with a problem for each."""
    response = await plain_app.client.post(f"{OUTCOMES}/batch", json={"outcomes": [1, 2]})
    assert [result["status"] for result in response.json()["results"]] == [400, 400]


async def test_one_can_be_withdrawn(plain_app: RunningApp) -> None:
    """A withdrawn outcome stays in the record, marked; withdrawing it again changes nothing; another may follow."""
    decision_id = (await plain_app.decide())["decision_id"]
    body = an_outcome(decision_id=decision_id)
    outcome_id = (await plain_app.client.post(OUTCOMES, json=body)).json()["outcome_id"]
    for _ in range(2):
        assert (await plain_app.client.delete(f"{OUTCOMES}/{outcome_id}")).status_code == 200
    [kept] = (await plain_app.client.get(f"/v1/decisions/{decision_id}")).json()["outcomes"]
    assert kept["outcome_id"] == outcome_id
    assert kept["withdrawn_at"]
    again = await plain_app.client.post(OUTCOMES, json={**body, "solved": False})
    assert again.status_code == 201


@pytest.mark.parametrize(
    "outcome_id", [uuid7(), "x", "%00", "..%2f..", "x" * 500], ids=["uuid", "x", "nul", "up", "long"]
)
async def test_what_never_was_cannot_be_withdrawn(plain_app: RunningApp, outcome_id: str) -> None:
    """An id of no outcome is a 404."""
    response = await plain_app.client.delete(f"{OUTCOMES}/{outcome_id}")
    assert (response.status_code, response.json()["type"]) == (404, "urn:pointsman:not-found")


async def test_outcomes_are_learned_and_unlearned(plain_app: RunningApp) -> None:
    """What is recorded shows in the catalog soon, with its number; what is withdrawn goes again."""

    async def becomes(number: int) -> None:
        shown: object = None
        for _ in range(1000):
            agents = (await plain_app.client.get("/v1/catalog")).json()["agents"]
            [shown] = [m["forecast"]["n"] for agent in agents for m in agent["models"] if m["model"] == "opus"]
            if shown == number:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"the catalog shows {shown} outcomes and not {number}")

    ids = [(await plain_app.client.post(OUTCOMES, json=an_outcome())).json()["outcome_id"] for _ in range(2)]
    await becomes(2)
    await plain_app.client.delete(f"{OUTCOMES}/{ids[0]}")
    await becomes(1)
    assert (await plain_app.client.get("/v1/status")).json()["learning"]["outcomes"] == 1
