"""One question, one answer, over a real socket: what is sent, what comes back, what is tried again."""

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from service.contract.decision import Usage
from service.llm.client import LLMClient
from service.llm.errors import LLMConnectionError, LLMError, LLMReplyError, LLMRequestError, LLMStatusError
from service.llm.transport import make_http_client
from service.llm.wire import ChatMessage
from tests.support.fake_behaviours import answer, drop_when_reused, models, raw, reset, status, then_drop
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.llm_client import llm_client

HELLO = [ChatMessage(role="user", content="hello")]


class Sleeper:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def _client(http: httpx.AsyncClient, url: str, **more: Any) -> LLMClient:  # noqa: ANN401 - as LLMClient
    options: dict[str, Any] = {"model": "configured", "timeout_seconds": 20.0, **more}
    return llm_client(http, url, **options)


def _sleepless(http: httpx.AsyncClient, url: str, sleeper: Sleeper, **more: Any) -> LLMClient:  # noqa: ANN401 - likewise
    return _client(http, url, clock=sleeper.clock, sleep=sleeper.sleep, chance=lambda: 0.0, **more)


async def test_the_answer_comes_with_usage_and_finish_reason(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """Content, finish reason, model, token counts and reasoning of the answer are returned."""
    fake_endpoint.reply("yes", finish_reason="length", usage=(12, 3), reasoning="hm", model="real")
    reply = await _client(http, fake_endpoint.url).chat(HELLO)
    assert (reply.content, reply.finish_reason, reply.model, reply.reasoning) == ("yes", "length", "real", "hm")
    assert reply.usage == Usage(tokens_in=12, tokens_out=3)


async def test_only_what_is_set_is_sent(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """Without settings the request holds model and messages, no bearer header, and asks for no compression."""
    await _client(http, fake_endpoint.url).chat(HELLO)
    request = fake_endpoint.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.json == {"model": "configured", "messages": [{"role": "user", "content": "hello"}]}
    assert "authorization" not in request.headers
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"


async def test_every_setting_is_sent(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """Key, temperature, limits, response format and extra fields arrive as they were given."""
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    client = _client(
        http,
        fake_endpoint.url,
        api_key="sk-1",
        default_temperature=0.0,
        extra_body={"seed": 2, "chat_template_kwargs": {"enable_thinking": False}},
    )
    await client.chat(
        HELLO,
        response_format=schema,
        max_tokens=7,
    )
    request = fake_endpoint.requests[0]
    assert request.headers["authorization"] == "Bearer sk-1"
    assert request.json == {
        "model": "configured",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.0,
        "max_tokens": 7,
        "response_format": schema,
        "seed": 2,
        "chat_template_kwargs": {"enable_thinking": False},
    }


async def test_what_a_call_gives_wins_over_the_settings(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """Model and temperature of the call replace the configured ones; without them those are sent."""
    client = _client(http, fake_endpoint.url, default_temperature=0.5)
    await client.chat(HELLO, model="called", temperature=0.0)
    await client.chat(HELLO)
    first, second = (request.json for request in fake_endpoint.requests)
    assert (first["model"], first["temperature"]) == ("called", 0.0)
    assert (second["model"], second["temperature"]) == ("configured", 0.5)


@pytest.mark.parametrize("model", [None, ""])
async def test_no_model_is_an_error_before_any_request(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint, model: str | None
) -> None:
    """Where neither the call nor the settings name a model, nothing is sent."""
    with pytest.raises(LLMRequestError) as caught:
        await _client(http, fake_endpoint.url, model=model).chat(HELLO)
    assert caught.value.problem == "no-model"
    assert fake_endpoint.connections == 0


async def test_extra_body_may_not_ask_something_else(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """A reserved field in `extra_body` is refused when the client is made."""
    with pytest.raises(LLMRequestError):
        _client(http, fake_endpoint.url, extra_body={"model": "other"})


async def test_an_endpoint_with_a_trailing_slash_works(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """`…/v1/` is the same endpoint as `…/v1`."""
    await _client(http, fake_endpoint.url + "/").chat(HELLO)
    assert fake_endpoint.requests[0].path == "/v1/chat/completions"


async def test_a_429_with_retry_after_leads_to_exactly_two_calls(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """`Retry-After: 1` is waited in real time, and the second call brings the answer."""
    fake_endpoint.then(status(429, headers={"Retry-After": "1"}), answer("yes"))
    assert (await _client(http, fake_endpoint.url).chat(HELLO)).content == "yes"
    first, second = fake_endpoint.requests
    assert 0.99 <= second.time - first.time < 10


@pytest.mark.parametrize(
    ("header", "waits"),
    [
        pytest.param("3", [3.0, 3.0], id="seconds"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", [0.0, 0.0], id="past-date"),
        pytest.param(format_datetime(datetime.fromtimestamp(2_000_000_004, UTC), usegmt=True), [4.0, 4.0], id="date"),
        pytest.param("NaN", [1.0, 2.0], id="nan"),
        pytest.param("-3", [1.0, 2.0], id="negative"),
        pytest.param("31536000", [1.0, 2.0], id="a-year"),
        pytest.param(None, [1.0, 2.0], id="none"),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
async def test_three_tries_with_the_waits_that_the_server_asks_for(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint, code: int, header: str | None, waits: list[float]
) -> None:
    """429 and 503 are tried three times in all; Retry-After says how long to wait, else the backoff does."""
    sleeper = Sleeper()
    fake_endpoint.always(status(code, headers={"Retry-After": header} if header else None))
    client = _sleepless(http, fake_endpoint.url, sleeper, wall_clock=lambda: 2_000_000_000.0)
    with pytest.raises(LLMStatusError):
        await client.chat(HELLO)
    assert len(fake_endpoint.requests) == 3
    assert sleeper.waits == waits


async def test_a_retry_after_beyond_the_deadline_fails_at_once_and_is_kept(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """One call, no wait; the error carries the seconds, and says 429 and the seconds in its text."""
    sleeper = Sleeper()
    fake_endpoint.always(status(429, "slow down", headers={"Retry-After": "20"}))
    with pytest.raises(LLMStatusError, match=r"429 Too Many Requests, retry after 20 s: slow down") as caught:
        await _sleepless(http, fake_endpoint.url, sleeper).chat(HELLO, timeout_seconds=20.0)
    assert (caught.value.problem, caught.value.status, caught.value.retry_after) == ("http-429", 429, 20.0)
    assert (len(fake_endpoint.requests), sleeper.waits) == (1, [])


@pytest.mark.parametrize("code", [301, 302, 307, 400, 401, 403, 404, 413, 422, 500, 502, 504, 599])
async def test_other_statuses_are_errors_and_never_tried_again(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint, code: int
) -> None:
    """Each other status is an LLMStatusError after one call; a redirect is not followed."""
    elsewhere = {"Location": f"{fake_endpoint.url}/elsewhere"} if code < 400 else None
    fake_endpoint.always(status(code, "because", headers=elsewhere))
    with pytest.raises(LLMStatusError, match=f"{code}.*because$") as caught:
        await _client(http, fake_endpoint.url).chat(HELLO)
    assert (caught.value.status, caught.value.problem) == (code, f"http-{code}")
    assert len(fake_endpoint.requests) == 1
    if elsewhere:
        assert "redirect to" in str(caught.value)


async def test_an_error_body_is_short_clean_and_without_the_key(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """At most 500 characters of the body, control characters and the key taken out; nor is the key in a repr."""
    fake_endpoint.always(status(401, b"Bad key: sk-secret\x1b[31m\x00\r\n\xff" + b"x" * 5000))
    client = _client(http, fake_endpoint.url, api_key="sk-secret")
    with pytest.raises(LLMStatusError) as caught:
        await client.chat(HELLO)
    assert caught.value.body.startswith("Bad key: *** ")
    assert len(caught.value.body) == 500
    assert caught.value.body.isprintable()
    assert "sk-secret" not in f"{caught.value!s}{caught.value!r}{client!r}{client.endpoint!r}{vars(caught.value)}"


async def test_refused_connections_are_tried_three_times(http: httpx.AsyncClient) -> None:
    """Nobody listens: three tries with the backoff between them, then an error that says refused."""
    with FakeEndpoint() as gone:
        url = gone.url
    sleeper = Sleeper()
    with pytest.raises(LLMConnectionError, match="connection refused") as caught:
        await _sleepless(http, url, sleeper).chat(HELLO)
    assert (caught.value.problem, sleeper.waits) == ("connection-refused", [1.0, 2.0])


async def test_a_reset_connection_is_tried_again(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """A fresh connection that breaks counts as a try, and the next one brings the answer."""
    sleeper = Sleeper()
    fake_endpoint.then(reset(), answer("yes"))
    assert (await _sleepless(http, fake_endpoint.url, sleeper).chat(HELLO)).content == "yes"
    assert sleeper.waits == [1.0]


async def test_a_dropped_keep_alive_connection_is_replaced_at_once(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """A request that meets a dropped kept-alive connection is sent again on a fresh one, without a wait."""
    sleeper = Sleeper()
    client = _sleepless(http, fake_endpoint.url, sleeper, max_attempts=1)
    fake_endpoint.always(drop_when_reused(answer("yes")))
    for _ in range(6):
        assert (await client.chat(HELLO)).content == "yes"
    assert sleeper.waits == []
    assert max(request.nth for request in fake_endpoint.requests) == 2


async def test_a_server_that_drops_after_each_answer_is_no_trouble(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """A server may close behind each answer without saying so; each next question is answered all the same."""
    client = _client(http, fake_endpoint.url, max_attempts=1)
    fake_endpoint.always(then_drop(answer("yes")))
    for _ in range(50):
        assert (await client.chat(HELLO)).content == "yes"


async def test_connections_are_kept_and_reused(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """One caller needs one connection, however many questions it asks."""
    client = _client(http, fake_endpoint.url)
    for _ in range(10):
        await client.chat(HELLO)
    assert fake_endpoint.connections == 1


async def test_a_proxy_of_the_environment_has_no_effect(
    fake_endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY in the pod does not catch the requests to a local endpoint."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with make_http_client(max_connections=1) as http:
        assert (await _client(http, fake_endpoint.url).chat(HELLO)).content == "hello"


async def test_cookies_are_not_kept(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """A server that sets a cookie with each answer neither gets it back nor fills a jar."""
    fake_endpoint.always(answer("yes", headers={"Set-Cookie": "a=b; Path=/"}))
    client = _client(http, fake_endpoint.url)
    for _ in range(2):
        await client.chat(HELLO)
    assert "cookie" not in fake_endpoint.requests[1].headers
    assert len(http.cookies) == 0


async def test_the_models_of_the_server_are_listed(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """`models` asks `GET /models` with the key and gives the ids."""
    client = _client(http, fake_endpoint.url + "/", api_key="sk-1")
    assert await client.models(5.0) == ["fake-model"]
    request = fake_endpoint.requests[0]
    assert (request.method, request.path, request.body) == ("GET", "/v1/models", b"")
    assert request.headers["authorization"] == "Bearer sk-1"
    assert "content-type" not in request.headers


async def test_a_server_without_a_list_of_models_is_an_error(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """A 404 on `/models` is an LLMStatusError, and another shape an LLMReplyError."""
    client = _client(http, fake_endpoint.url)
    fake_endpoint.serve_models(status(404))
    with pytest.raises(LLMStatusError):
        await client.models(5.0)
    fake_endpoint.serve_models(raw(b'["a"]'))
    with pytest.raises(LLMReplyError):
        await client.models(5.0)
    fake_endpoint.serve_models(models("a", "b"))
    assert await client.models(5.0) == ["a", "b"]


async def test_text_of_every_script_arrives_unchanged(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """Right-to-left, zero-width, NUL, quotes and 200,000 characters go there and back."""
    text = 'שלום \u200b\u202e\x00"\\\u2028 💡 ' + "x" * 200_000
    reply = await _client(http, fake_endpoint.url).chat([ChatMessage(role="user", content=text)])
    assert reply.content == text


async def test_a_closed_client_takes_no_more_questions(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """After `aclose` a call is refused before any request."""
    client = _client(http, fake_endpoint.url)
    await client.aclose()
    with pytest.raises(LLMError) as caught:
        await client.chat(HELLO)
    assert caught.value.problem == "closed"
    assert fake_endpoint.connections == 0


async def test_the_time_given_is_for_everything(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> None:
    """The tries and the waits between them together end by the deadline of the call."""
    fake_endpoint.always(status(503))
    begun = time.monotonic()
    with pytest.raises(LLMStatusError):
        await _client(http, fake_endpoint.url).chat(HELLO, timeout_seconds=1.5)
    assert time.monotonic() - begun < 1.5
    assert len(fake_endpoint.requests) == 2


async def test_a_date_in_retry_after_is_waited_by_the_wall_clock(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """A date one to two seconds ahead is waited in real time."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    fake_endpoint.then(status(503, headers={"Retry-After": soon}), answer("yes"))
    await _client(http, fake_endpoint.url).chat(HELLO)
    first, second = fake_endpoint.requests
    assert 0.9 < second.time - first.time < 10
    assert json.loads(second.body) == json.loads(first.body)
