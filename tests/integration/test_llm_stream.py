"""Streamed answers over a real socket: pieces, the whole, every way to end, every way to fail."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.contract.decision import Usage
from service.llm.client import LLMClient
from service.llm.errors import (
    LLMConnectionError,
    LLMError,
    LLMReplyError,
    LLMRequestError,
    LLMStatusError,
    LLMTimeoutError,
)
from service.llm.stream import ChatStream
from service.llm.transport import make_http_client
from service.llm.wire import ChatMessage, ChatReply, StreamDelta
from tests.support.fake_behaviours import (
    answer,
    cut,
    deltas,
    drop_when_reused,
    events,
    hang,
    hang_after_headers,
    over_and_over,
    prose,
    raw,
    reset,
    sse,
    status,
    streamed,
    then_drop,
)
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour, Exchange
from tests.support.llm_client import llm_client

HELLO = [ChatMessage(role="user", content="hello")]


@pytest.fixture
async def client(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> AsyncIterator[LLMClient]:
    """A client with one slot, so that a stream which never ends would block what comes after it."""
    client = llm_client(
        http,
        fake_endpoint.url,
        model="m",
        api_key="sk-1",
        timeout_seconds=10.0,
        max_concurrency=1,
        first_wait_seconds=0.01,
        max_stream_bytes=5_000_000,
    )
    yield client
    await client.aclose(timeout_seconds=1.0)


async def _all(stream: ChatStream) -> tuple[list[StreamDelta], ChatReply]:
    async with stream:
        return [delta async for delta in stream], stream.reply


async def test_pieces_come_one_by_one_and_the_whole_at_the_end(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """Content and reasoning come apart; the reply holds all of it, finish reason, model and the last usage."""
    fake_endpoint.then(streamed("Hel", "lo", reasoning=["let me ", "think"], usage=(9, 4), finish_reason="length"))
    pieces, reply = await _all(client.chat_stream(HELLO, max_tokens=5))
    assert [(piece.content, piece.reasoning) for piece in pieces] == [
        ("", "let me "),
        ("", "think"),
        ("Hel", ""),
        ("lo", ""),
    ]
    assert reply == ChatReply(
        content="Hello",
        model="fake-model",
        finish_reason="length",
        usage=Usage(tokens_in=9, tokens_out=4),
        reasoning="let me think",
    )
    assert fake_endpoint.requests[0].json == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
    }


async def test_pieces_come_as_they_are_sent(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """The first piece is there long before the last one is sent; would catch a stream that is read to its end first."""
    fake_endpoint.then(streamed(*"abcdef", pause=0.1))
    async with client.chat_stream(HELLO) as stream:
        first = await anext(stream)
        assert first.content == "a"
        assert stream.reply.content == "a"
        assert [delta.content async for delta in stream] == list("bcdef")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(st.text(max_size=8), max_size=6),
    lengths=st.lists(st.integers(1, 40), max_size=60),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
async def test_an_answer_is_the_same_however_it_is_cut(
    fake_endpoint: FakeEndpoint, contents: list[str], lengths: list[int], newline: str
) -> None:
    """Cut at any byte, inside characters and line ends too, the stream gives the same answer."""
    data = b": ping" + newline.encode() * 2 + events(*deltas(*contents), newline=newline)
    fake_endpoint.always(sse(data, split=lengths))
    async with make_http_client(max_connections=1) as http:
        _, reply = await _all(llm_client(http, fake_endpoint.url, model="m", timeout_seconds=10).chat_stream(HELLO))
    assert reply.content == "".join(contents)
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize(
    ("bad", "skipped"),
    [
        pytest.param("not json", 1, id="not-json"),
        pytest.param("[]", 1, id="list"),
        pytest.param('{"choices": 7}', 1, id="wrong-types"),
        pytest.param('{"choices": [{"delta": {"content": ["x"]}}]}', 1, id="content-parts"),
        pytest.param("[" * 100_000, 1, id="deep-nesting"),
        pytest.param("{}", 0, id="empty-object"),
        pytest.param('{"choices": [{}]}', 0, id="no-delta"),
        pytest.param('{"choices": [{"delta": {"tool_calls": []}}]}', 0, id="no-text"),
    ],
)
async def test_a_malformed_chunk_is_logged_and_skipped(
    client: LLMClient, fake_endpoint: FakeEndpoint, caplog: pytest.LogCaptureFixture, bad: str, skipped: int
) -> None:
    """The answer is the same without it; the log says that there was one, and nothing of what it held."""
    chunks = deltas("a", "b")
    fake_endpoint.then(sse(events(*chunks[:2], bad, *chunks[2:])))
    with caplog.at_level(logging.WARNING, "service.llm"):
        _, reply = await _all(client.chat_stream(HELLO))
    assert (reply.content, reply.finish_reason) == ("ab", "stop")
    assert len(caplog.records) == skipped
    assert bad not in caplog.text


async def test_a_flood_of_malformed_chunks_is_two_log_lines(
    client: LLMClient, fake_endpoint: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """The first one is told, and their number at the end."""
    fake_endpoint.then(sse(events(*["x"] * 500, *deltas("a"))))
    with caplog.at_level(logging.WARNING, "service.llm"):
        _, reply = await _all(client.chat_stream(HELLO))
    assert reply.content == "a"
    assert [record.getMessage() for record in caplog.records] == [
        "a malformed chunk of the stream was skipped: 1 bytes",
        "500 chunks of the stream were malformed",
    ]


async def test_a_piece_of_a_mebibyte_arrives_whole(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """A line of 1 MiB with every kind of separator in it is one piece."""
    text = ("x\u2028\x85" * 300_000)[:1_000_000]
    fake_endpoint.then(sse(events(*deltas(text)), split=50_000))
    pieces, reply = await _all(client.chat_stream(HELLO))
    assert (len(pieces), reply.content) == (1, text)


async def test_a_server_that_does_not_stream_is_read_all_the_same(
    client: LLMClient, fake_endpoint: FakeEndpoint
) -> None:
    """One JSON document in answer to `stream: true` is one piece."""
    fake_endpoint.then(answer("whole", reasoning="hm", usage=(3, 2)))
    pieces, reply = await _all(client.chat_stream(HELLO))
    assert pieces == [StreamDelta(content="whole", reasoning="hm")]
    assert (reply.content, reply.usage) == ("whole", Usage(tokens_in=3, tokens_out=2))


async def test_a_stream_without_done_is_complete_with_its_finish_reason(
    client: LLMClient, fake_endpoint: FakeEndpoint
) -> None:
    """Some servers send no `[DONE]`; a finish reason says as much."""
    fake_endpoint.then(sse(events(*deltas("a"), done=False)))
    _, reply = await _all(client.chat_stream(HELLO))
    assert (reply.content, reply.finish_reason) == ("a", "stop")


PART = events(*deltas("part", finish_reason=None, usage=None), done=False)

BROKEN = [
    # Each with the defect that it would catch: without a limit on silence, the first two last to the deadline;
    pytest.param(sse(PART, end=hang()), LLMTimeoutError, "idle-timeout", "part", id="hangs-after-a-piece"),
    pytest.param(
        sse(PART, end=over_and_over(b": ping\n\n", pause=0.02)),
        LLMTimeoutError,
        "idle-timeout",
        "part",
        id="bytes-but-no-piece",
    ),
    # without an end that is checked, a cut answer counts as a whole one;
    pytest.param(sse(PART), LLMConnectionError, "stream-cut", "part", id="ends-too-early"),
    pytest.param(sse(PART, end=cut(b"")), LLMConnectionError, "connection-broken", "part", id="closes-in-the-middle"),
    pytest.param(sse(PART, end=reset()), LLMConnectionError, "connection-broken", "part", id="resets-in-the-middle"),
    # without a look at `error`, what the server says is a malformed chunk;
    pytest.param(
        sse(PART + events({"error": {"message": "sk-1 out of memory"}})),
        LLMReplyError,
        "server-error",
        "part",
        id="error-event",
    ),
    # without bounds, memory grows with what the server sends;
    pytest.param(sse(PART + b"data: " + b"x" * 3_000_000), LLMReplyError, "too-large", "part", id="line-without-end"),
    pytest.param(
        sse(PART, end=over_and_over(events(*deltas("x" * 60_000), done=False))),
        LLMReplyError,
        "too-large",
        None,
        id="stream-without-end",
    ),
    # without checks of the start, an error page is an empty answer.
    pytest.param(sse(b"data: [DONE]\n\n"), LLMReplyError, "no-choices", "", id="only-done"),
    pytest.param(raw(b"<html>", content_type="text/html"), LLMReplyError, "not-json", "", id="html"),
    pytest.param(raw(b"{}"), LLMReplyError, "no-choices", "", id="empty-object"),
    pytest.param(status(500), LLMStatusError, "http-500", "", id="500"),
]


@pytest.mark.parametrize(("fault", "error", "problem", "content"), BROKEN)
async def test_a_broken_stream_gives_what_came_and_then_says_why(
    client: LLMClient,
    fake_endpoint: FakeEndpoint,
    fault: Behaviour,
    error: type[LLMError],
    problem: str,
    content: str | None,
) -> None:
    """The pieces, then the error; never a second request once a piece was out; the next question is answered."""
    fake_endpoint.always(fault)
    async with client.chat_stream(HELLO, idle_seconds=0.3) as stream:
        with pytest.raises(error) as caught:
            async for _ in stream:
                pass
    assert caught.value.problem == problem
    assert "sk-1" not in str(caught.value)
    assert content is None or stream.reply.content == content
    assert len(fake_endpoint.requests) == 1
    fake_endpoint.always(answer("well"))
    assert (await client.chat(HELLO)).content == "well"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(hang(), id="no-answer"),
        pytest.param(hang_after_headers(headers={"Content-Type": "text/event-stream"}), id="no-event"),
        pytest.param(sse(b": ping\n\n" * 2000, split=8, pause=0.01), id="only-pings"),
        pytest.param(streamed(*["x"] * 2000, pause=0.01), id="pieces-without-end"),
    ],
)
async def test_a_stream_ends_by_its_deadline(client: LLMClient, fake_endpoint: FakeEndpoint, fault: Behaviour) -> None:
    """Whatever comes or does not come; would catch a deadline that each piece starts anew."""
    fake_endpoint.always(fault)
    begun = time.monotonic()
    with pytest.raises(LLMTimeoutError) as caught:
        await _all(client.chat_stream(HELLO, timeout_seconds=0.4))
    assert caught.value.problem == "timeout"
    assert time.monotonic() - begun < 5, "a guard against hanging, not a measurement"
    fake_endpoint.always(answer("well"))
    assert (await client.chat(HELLO)).content == "well"


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(status(503), id="503"),
        pytest.param(status(429, headers={"Retry-After": "0"}), id="429"),
        pytest.param(reset(), id="reset"),
        pytest.param(cut(b""), id="closed"),
        pytest.param(sse(b": ping\n\n", end=reset()), id="reset-before-the-first-chunk"),
    ],
)
async def test_what_fails_before_the_first_chunk_is_tried_again(
    client: LLMClient, fake_endpoint: FakeEndpoint, failing: Behaviour
) -> None:
    """Twice it fails, the third try brings the answer, and no piece comes twice."""
    fake_endpoint.then(failing, failing, streamed("a", "b"))
    pieces, _ = await _all(client.chat_stream(HELLO))
    assert [piece.content for piece in pieces] == ["a", "b"]
    assert len(fake_endpoint.requests) == 3


async def test_leaving_a_stream_stops_the_server_and_frees_the_slot(
    client: LLMClient, fake_endpoint: FakeEndpoint
) -> None:
    """Its connection is closed within moments; would catch a server that generates for nobody."""
    fake_endpoint.always(streamed(*["x"] * 5000, pause=0.01))
    async with client.chat_stream(HELLO) as stream:
        async for _ in stream:
            break
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: fake.left_early == 1 and fake.open_connections == 0)
    fake_endpoint.always(answer("well"))
    assert (await client.chat(HELLO, timeout_seconds=2.0)).content == "well"
    assert [delta async for delta in stream] == []


@pytest.mark.parametrize("fault", [pytest.param(hang(), id="hang"), pytest.param(status(503), id="between-tries")])
async def test_cancelling_a_reader_ends_the_stream(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint, fault: Behaviour
) -> None:
    """A cancelled task leaves the `async with`, and by it the request ends."""
    fake_endpoint.always(fault)
    client = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=20.0, first_wait_seconds=9.0)
    reader = asyncio.create_task(_all(client.chat_stream(HELLO)))
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.requests) == 1)
    await asyncio.sleep(0.05)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await client.aclose(timeout_seconds=2.0)
    assert client.under_way == 0


async def test_the_wait_for_a_piece_may_be_cancelled(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """A reader that looks at the clock between pieces loses none of them."""
    fake_endpoint.then(streamed("a", "b", "c", pause=0.08))
    contents: list[str] = []
    async with client.chat_stream(HELLO) as stream:
        while True:
            try:
                contents.append((await asyncio.wait_for(anext(stream), 0.02)).content)
            except TimeoutError:
                continue
            except StopAsyncIteration:
                break
    assert contents == ["a", "b", "c"]


@pytest.mark.parametrize(
    "dropping",
    [
        pytest.param(then_drop(streamed("s")), id="closes-behind-it"),
        pytest.param(drop_when_reused(streamed("s")), id="resets-what-comes-after-it"),
    ],
)
async def test_a_server_that_drops_behind_a_stream_is_no_trouble(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint, dropping: Behaviour
) -> None:
    """The connection of a stream is good for nothing after it; would catch a stream on a connection that is kept."""
    client = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=10.0, max_attempts=1)
    fake_endpoint.choose(lambda request: dropping if request.json.get("stream") else answer("c"))
    for _ in range(30):
        _, reply = await _all(client.chat_stream(HELLO))
        assert reply.content == "s"
        assert (await client.chat(HELLO)).content == "c"
    assert len(fake_endpoint.requests) == 60, "nothing was asked twice"


async def test_a_slow_reader_loses_nothing(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """Pieces wait for their reader, also after the stream has ended and its slot is free."""
    fake_endpoint.then(streamed(*["x"] * 500))
    async with client.chat_stream(HELLO) as stream:
        await anext(stream)
        await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: fake.open_connections == 0)
        assert (await client.chat(HELLO)).content == "hello"
        assert len([delta async for delta in stream]) == 499


async def test_nothing_is_sent_before_the_first_piece_is_asked_for(
    client: LLMClient, fake_endpoint: FakeEndpoint
) -> None:
    """A stream that is made and left costs nothing; a call that cannot be made is refused where it is made."""
    async with client.chat_stream(HELLO):
        await asyncio.sleep(0.05)
    assert fake_endpoint.connections == 0
    with pytest.raises(LLMRequestError):
        client.chat_stream([ChatMessage(role="user", content="\ud800")])


async def test_the_pool_serves_after_many_streams_were_left(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """Streams that are left at any moment leave neither a slot nor a connection behind."""
    client = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=10.0, max_concurrency=8)
    fake_endpoint.always(streamed(*["x"] * 1000, pause=0.005))

    async def leave(moment: float) -> None:
        async with client.chat_stream(HELLO) as stream:
            try:
                async with asyncio.timeout(moment):
                    async for _ in stream:
                        pass
            except TimeoutError:
                pass

    await asyncio.gather(*(leave(0.001 * number) for number in range(200)))
    await client.aclose(timeout_seconds=2.0)
    assert client.under_way == 0
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: fake.open_connections == 0)
    fake_endpoint.always(prose())
    after = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=5.0, max_concurrency=64)
    replies = await asyncio.gather(*(after.chat(HELLO) for _ in range(200)))
    assert len({reply.content for reply in replies}) == 1


async def test_usage_in_every_chunk_counts_once(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """Servers that send running token counts with each chunk: the last one counts."""

    async def behave(exchange: Exchange) -> None:
        chunks: list[dict[str, Any]] = deltas("a", "b", usage=None)
        for number, chunk in enumerate(chunks):
            chunk["usage"] = {"prompt_tokens": 7, "completion_tokens": number}
        await sse(events(*chunks, json.dumps({"choices": [], "usage": None})))(exchange)

    fake_endpoint.then(behave)
    _, reply = await _all(client.chat_stream(HELLO))
    assert reply.usage == Usage(tokens_in=7, tokens_out=3)
