"""What the service replaces could do, and this one does too, each behaviour by a test of its own.

| behaviour                                                      | test                                               |
|----------------------------------------------------------------|----------------------------------------------------|
| bearer header sent                                             | test_the_bearer_header_is_sent                     |
| response_format json_object sent                               | test_json_object_is_asked_for                      |
| usage and finish reason returned                               | test_usage_and_finish_reason_come_back             |
| a 429 with `Retry-After: 1` leads to exactly two calls         | test_a_429_leads_to_exactly_two_calls              |
| an error text carries "429" and the retry-after                | test_an_error_carries_status_and_retry_after       |
| three tries from a second on                                   | test_three_tries_from_a_second_on                  |
| a model per call wins over the configured one                  | test_a_model_of_the_call_wins                      |
| none at all is an error before any request                     | test_no_model_is_an_error_before_any_request       |
| an endpoint with a trailing slash works                        | test_a_trailing_slash_works                        |
| temperature and max_tokens are sent only when given            | test_what_is_not_given_is_not_sent                 |
| an answer without choices is an error that says so             | test_no_choices_is_an_error_that_says_so           |
| an empty endpoint: no local agent, and the CLI classifies      | test_an_empty_endpoint_means_the_cli               |
| a requested agent skips classification only when registered    | test_only_a_registered_agent_skips_classification  |
| classification never waits for an execution slot               | test_classification_never_waits_for_an_execution   |
"""

import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.llm.client import LLMClient
from service.llm.errors import LLMError
from service.llm.transport import make_http_client
from service.llm.wire import ChatMessage
from tests.support.fake_behaviours import answer, hang, raw, status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, OpenService, with_model
from tests.support.llm_client import llm_client

ASK = [ChatMessage(role="user", content="hello")]


@pytest.fixture
async def lent() -> AsyncGenerator[httpx.AsyncClient]:
    """An HTTP client as the service makes it."""
    async with make_http_client(max_connections=8) as client:
        yield client


def a_client(
    lent: httpx.AsyncClient, fake: FakeEndpoint, *, model: str | None = "m", default_temperature: float | None = None
) -> LLMClient:
    """A client of the fake endpoint."""
    return llm_client(lent, fake.url, model=model, default_temperature=default_temperature, timeout_seconds=20.0)


async def test_the_bearer_header_is_sent(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """`local_model.api_key` goes to the server as a bearer token; without one there is no such header."""
    fake_endpoint.always(verdict("claude", "opus"))
    await (await open_app(local_model=with_model(fake_endpoint, api_key="sk-1"))).decide()
    await (await open_app(local_model=with_model(fake_endpoint))).decide()
    first, second = fake_endpoint.chats
    assert first.headers["authorization"] == "Bearer sk-1"
    assert "authorization" not in second.headers


async def test_json_object_is_asked_for(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A classification asks for a JSON object."""
    fake_endpoint.always(verdict("claude", "opus"))
    await (await open_app(local_model=with_model(fake_endpoint))).decide()
    assert fake_endpoint.chats[0].json["response_format"] == {"type": "json_object"}


async def test_usage_and_finish_reason_come_back(lent: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """An answer carries its token counts and why it ended."""
    fake_endpoint.then(answer("hi", usage=(12, 7), finish_reason="length"))
    reply = await a_client(lent, fake_endpoint).chat(ASK)
    assert (reply.content, reply.finish_reason) == ("hi", "length")
    assert reply.usage is not None
    assert (reply.usage.tokens_in, reply.usage.tokens_out) == (12, 7)


async def test_a_429_leads_to_exactly_two_calls(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A 429 with `Retry-After: 1` is tried again once, after that second, and the answer is taken."""
    fake_endpoint.then(status(429, headers={"Retry-After": "1"}))
    fake_endpoint.always(verdict("claude", "opus"))
    decision = await (await open_app(local_model=with_model(fake_endpoint))).decide()
    assert (decision["source"], decision["degraded"]) == ("local_model", False)
    first, second = fake_endpoint.chats
    assert 0.9 < second.time - first.time < 5


async def test_an_error_carries_status_and_retry_after(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """What is told of a 429 that does not go away has "429" and the retry-after in it."""
    fake_endpoint.always(status(429, headers={"Retry-After": "77"}))
    decision = await (await open_app(local_model=with_model(fake_endpoint))).decide()
    [failure] = decision["failures"]
    assert "429" in failure["detail"]
    assert "77" in failure["detail"]


async def test_three_tries_from_a_second_on(lent: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """A 503 is tried three times in all: after a second or a little more, and after two."""
    fake_endpoint.always(status(503))
    with pytest.raises(LLMError, match="503"):
        await a_client(lent, fake_endpoint).chat(ASK)
    first, second, third = (request.time for request in fake_endpoint.chats)
    assert 0.95 < second - first < 3
    assert 1.9 < third - second < 5


async def test_a_model_of_the_call_wins(lent: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """The call's model is sent where there is one, else the configured one."""
    client = a_client(lent, fake_endpoint)
    await client.chat(ASK, model="other")
    await client.chat(ASK)
    assert [request.json["model"] for request in fake_endpoint.chats] == ["other", "m"]


async def test_no_model_is_an_error_before_any_request(lent: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """Where neither the call nor the configuration names a model nothing is sent."""
    with pytest.raises(LLMError, match="no model"):
        await a_client(lent, fake_endpoint, model=None).chat(ASK)
    assert fake_endpoint.requests == []


@pytest.mark.parametrize("ending", ["/", "//"])
async def test_a_trailing_slash_works(open_app: OpenApp, fake_endpoint: FakeEndpoint, ending: str) -> None:
    """An endpoint may end with a slash."""
    fake_endpoint.always(verdict("claude", "opus"))
    section = {**with_model(fake_endpoint), "endpoint": fake_endpoint.url + ending}
    assert (await (await open_app(local_model=section)).decide())["source"] == "local_model"
    assert fake_endpoint.chats[0].path == "/v1/chat/completions"


async def test_what_is_not_given_is_not_sent(lent: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """`temperature` and `max_tokens` are in the request only when they are given."""
    client = a_client(lent, fake_endpoint)
    await client.chat(ASK)
    await client.chat(ASK, temperature=0.0, max_tokens=5)
    await a_client(lent, fake_endpoint, default_temperature=0.5).chat(ASK)
    without, given, default = (request.json for request in fake_endpoint.chats)
    assert not {"temperature", "max_tokens"} & set(without)
    assert (given["temperature"], given["max_tokens"]) == (0.0, 5)
    assert default["temperature"] == 0.5


@pytest.mark.parametrize("body", [{"choices": []}, {}, {"choices": None}], ids=["empty", "missing", "null"])
async def test_no_choices_is_an_error_that_says_so(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, body: dict[str, Any]
) -> None:
    """An answer without choices is a failure whose text says that there are none."""
    fake_endpoint.always(raw(json.dumps(body).encode()))
    decision = await (await open_app(local_model=with_model(fake_endpoint))).decide()
    [failure] = decision["failures"]
    assert failure["problem"] == "no-choices"
    assert "no choices" in failure["detail"]


async def test_an_empty_endpoint_means_the_cli(open_app: OpenApp, tmp_path: Path) -> None:
    """With an empty endpoint no local agent is registered, and the CLI classifies."""
    script = tmp_path / "chooser"
    script.write_text('#!/bin/sh\ncat > /dev/null\necho \'{"agent_type": "gemini", "model": "flash"}\'\n')
    script.chmod(0o755)
    app = await open_app(local_model={"endpoint": ""}, cli={"command": [str(script)]})
    agents = (await app.client.get("/v1/catalog")).json()["agents"]
    assert "local" not in [agent["agent_type"] for agent in agents]
    decision = await app.decide()
    assert (decision["source"], decision["model"]) == ("cli", "flash")


async def test_only_a_registered_agent_skips_classification(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A requested pair of a registered agent is not classified; an unknown agent still gets classified."""
    fake_endpoint.always(verdict("claude", "opus"))
    app = await open_app(local_model=with_model(fake_endpoint))
    assert (await app.decide(agent_type="gemini", model="flash"))["source"] == "requested"
    assert fake_endpoint.chats == []
    assert (await app.decide(agent_type="unheard-of"))["source"] == "local_model"
    assert len(fake_endpoint.chats) == 1


def test_classification_never_waits_for_an_execution(open_service: OpenService, fake_endpoint: FakeEndpoint) -> None:
    """With every execution slot taken, and more queued, by runs that never end, a decision still comes at once."""
    fake_endpoint.choose(lambda request: hang() if request.json.get("stream") else verdict("claude", "claude-opus-4-8"))
    service = open_service(
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
        POINTSMAN_LOCAL_MODEL__MODEL="m",
        POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY="1",
        POINTSMAN_EXECUTIONS__MAX_CONCURRENCY="2",
    )
    with service.client() as client:
        for number in range(6):
            assert client.post("/v1/executions", json={"instructions": f"Run {number}"}).status_code == 202
        fake_endpoint.wait_for(lambda fake: len(fake.chats) == 2)
        started = time.monotonic()
        decision = client.post("/v1/classify", json={"instructions": "Fix the login"}).json()
    assert decision["source"] == "local_model"
    assert time.monotonic() - started < 5
