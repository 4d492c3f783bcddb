"""Too many at once: the service says so at once, and goes on with all that needs no waiting."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_behaviours import hang, slow
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.faults import good
from tests.support.http_fixtures import OpenApp, OpenService, with_model
from tests.support.plain_http import PlainClient
from tests.support.service_process import ServiceProcess

LIMIT = 4


@pytest.fixture
async def full(open_service: OpenService, fake_endpoint: FakeEndpoint, catalog_file: Path) -> ServiceProcess:
    """A service whose every place in the queue is taken, behind a model that never answers."""
    service = open_service(
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
        POINTSMAN_LOCAL_MODEL__MODEL="fake-model",
        POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY="2",
        POINTSMAN_LOCAL_MODEL__TIMEOUT_SECONDS="100",
        POINTSMAN_SERVER__MAX_IN_FLIGHT=str(LIMIT),
        POINTSMAN_CATALOG__PATH=str(catalog_file),
        POINTSMAN_CLI__PRESET="",
        POINTSMAN_DECISION__DEADLINE_MS="100000",
    )
    fake_endpoint.always(hang())
    return service


async def _fill(service: ServiceProcess) -> list[PlainClient]:
    clients: list[PlainClient] = []
    for number in range(LIMIT):
        clients.append(PlainClient(service.url))
        await clients[-1].send("POST", "/v1/classify", json.dumps({"instructions": f"Fix page {number}"}).encode())
    async with PlainClient(service.url) as client:
        end = time.monotonic() + 10.0
        while (await client.ask("GET", "/v1/status")).json["queue_depth"] < LIMIT:
            assert time.monotonic() < end
    return clients


@pytest.mark.alone
async def test_beyond_the_limit_it_is_refused_at_once(full: ServiceProcess, fake_endpoint: FakeEndpoint) -> None:
    """503 `overloaded` with Retry-After, half of them in under 10 ms: would catch a queue without end, or a refusal
    that itself waits in it."""
    clients = await _fill(full)
    async with PlainClient(full.url) as client:
        answers = [
            await client.ask("POST", "/v1/classify", {"instructions": f"Add page {number}"}) for number in range(101)
        ]
    assert {answer.status for answer in answers} == {503}
    assert {answer.json["type"] for answer in answers} == {"urn:pointsman:overloaded"}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert sorted(answer.seconds for answer in answers)[50] < 0.010
    assert len(fake_endpoint.chats) == 2
    for waiting in clients:
        waiting.close()


async def test_what_needs_no_waiting_goes_on(full: ServiceProcess) -> None:
    """Probes, metrics, status, and decisions that no classifier makes are answered while the queue is full: would catch
    a limit on all requests, and forecasts that queue behind a slow model."""
    clients = await _fill(full)
    async with PlainClient(full.url) as client:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/status", "/v1/catalog", "/v1/decisions"):
            assert (await client.ask("GET", path)).status == 200
        sources: list[str] = []
        for fields in (
            {"agent_type": "claude", "model": "opus"},
            {"require": {"local_only": True}},
        ):
            answer = await client.ask("POST", "/v1/classify", {"instructions": "Fix it", **fields})
            sources.append(answer.json["source"])
        batch = [{"instructions": "a", "agent_type": "claude", "model": "opus"}, {"instructions": "b"}]
        results = (await client.ask("POST", "/v1/classify/batch", {"tasks": batch})).json["results"]
    assert sources == ["requested", "only_candidate"]
    assert (results[0]["source"], results[1]["status"]) == ("requested", 503)
    for waiting in clients:
        waiting.close()


async def test_the_queue_empties_and_serves_again(full: ServiceProcess, fake_endpoint: FakeEndpoint) -> None:
    """When those who wait go away their places are free: would catch a count that only grows."""
    for waiting in await _fill(full):
        waiting.close()
    fake_endpoint.always(good())
    async with PlainClient(full.url) as client:
        end = time.monotonic() + 10.0
        while (await client.ask("GET", "/v1/status")).json["queue_depth"]:
            assert time.monotonic() < end
        answer = await client.ask("POST", "/v1/classify", {"instructions": "Fix it"})
        assert (answer.status, answer.json["source"]) == (200, "local_model")
        assert b"pointsman_decisions_waiting 0.0" in (await client.ask("GET", "/metrics")).body


async def test_identical_requests_in_flight_share_one_question(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Twenty of the same at once are one question to the model: would catch twenty."""
    app = await open_app(local_model=with_model(fake_endpoint))
    fake_endpoint.always(slow(good(), 0.3))
    decisions = await asyncio.gather(*(app.decide(task_id=str(number)) for number in range(20)))
    assert len(fake_endpoint.chats) == 1
    assert {decision["model"] for decision in decisions} == {"haiku"}
    assert len({decision["decision_id"] for decision in decisions}) == 20
    assert sum(decision["usage"]["tokens_in"] for decision in decisions) == 10
    assert sum(not decision["cached"] for decision in decisions) == 1


@pytest.mark.parametrize(
    ("changed", "shared"),
    [
        pytest.param({"task_id": "another"}, True, id="another-task-id"),
        pytest.param({"deadline_ms": 9000}, True, id="another-deadline"),
        pytest.param({"explain": True}, True, id="explained"),
        pytest.param({"fleet": {"gemini": {"running": 1, "slots": 2}}}, False, id="fleet"),
        pytest.param(
            {"attempts": [{"agent_type": "gemini", "model": "flash", "result": "failed"}]}, False, id="attempts"
        ),
        pytest.param({"labels": {"repo": "shop"}}, False, id="labels"),
        pytest.param({"value_usd": 9.0}, False, id="value"),
        pytest.param({"require": {"max_cost_usd": 9.0}}, False, id="require"),
    ],
)
async def test_a_recent_answer_is_shared_only_where_nothing_differs(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, changed: dict[str, Any], shared: bool
) -> None:
    """`cached` is true for the same question again, and false where fleet, attempts or a limit is another one: would
    catch a key that leaves something out, and an answer for a fleet that has changed."""
    app = await open_app(local_model=with_model(fake_endpoint))
    fake_endpoint.always(good())
    first = await app.decide()
    again = await app.decide(**changed)
    assert (first["cached"], again["cached"]) == (False, shared)
    assert len(fake_endpoint.chats) == (1 if shared else 2)
