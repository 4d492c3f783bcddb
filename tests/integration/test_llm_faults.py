"""Every way in which a model server can fail, from a real socket; and after each the very next question is answered.

Each case names the defect that it would catch.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trustme

from service.llm.client import LLMClient
from service.llm.errors import LLMConnectionError, LLMError, LLMReplyError, LLMStatusError, LLMTimeoutError
from service.llm.limits import Limits
from service.llm.transport import make_http_client
from service.llm.wire import ChatMessage
from tests.support.fake_behaviours import (
    answer,
    cut,
    endless,
    hang,
    hang_after_headers,
    huge,
    raw,
    reset,
    sse,
    status,
    trickle,
    trickle_forever,
)
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour, head
from tests.support.llm_client import llm_client

HELLO = [ChatMessage(role="user", content="hello")]
HALF = head(200, {"Content-Type": "application/json", "Content-Length": "100"}) + b'{"choices": ['

MAX_BODY_BYTES = Limits(timeout_seconds=1).max_body_bytes

SECONDS = 0.4
"""The deadline of a call in these tests."""

FAULTS = [
    # Without a time limit on the answer: hangs for ever.
    pytest.param(hang(), LLMTimeoutError, "timeout", id="accepts-and-never-answers"),
    # Without a time limit on the body.
    pytest.param(hang_after_headers(), LLMTimeoutError, "timeout", id="headers-then-hangs"),
    pytest.param(hang(HALF), LLMTimeoutError, "timeout", id="half-a-body-then-hangs"),
    # With httpx's read timeout alone, which starts anew with each byte: lasts 160 s, 16 s, for ever.
    pytest.param(trickle(pause=0.1), LLMTimeoutError, "timeout", id="a-byte-at-a-time"),
    pytest.param(trickle(pause=0.1, headers_too=True), LLMTimeoutError, "timeout", id="header-bytes-at-a-time"),
    pytest.param(trickle_forever(pause=0.05), LLMTimeoutError, "timeout", id="header-lines-without-end"),
    pytest.param(trickle_forever(pause=0, informational=True), LLMTimeoutError, "timeout", id="102-without-end"),
    # Without a mapping of httpx's exceptions: a ReadError or RemoteProtocolError reaches the caller.
    pytest.param(reset(), LLMConnectionError, "connection-broken", id="reset-before-the-answer"),
    pytest.param(reset(HALF), LLMConnectionError, "connection-broken", id="reset-in-the-middle"),
    pytest.param(cut(b""), LLMConnectionError, "connection-broken", id="closes-without-an-answer"),
    pytest.param(cut(HALF), LLMConnectionError, "connection-broken", id="closes-in-the-middle"),
    pytest.param(cut(b"SSH-2.0-x\r\n\r\n"), LLMConnectionError, "connection-broken", id="speaks-no-http"),
    # Without a limit on size: memory grows with what the server sends.
    pytest.param(endless(), LLMReplyError, "too-large", id="endless-body"),
    pytest.param(huge(), LLMReplyError, "too-large", id="1-gib-announced"),
    pytest.param(huge(declared=False), LLMReplyError, "too-large", id="1-gib-unannounced"),
    pytest.param(raw(b" " * (MAX_BODY_BYTES + 1)), LLMReplyError, "too-large", id="a-byte-too-many"),
    # With httpx's own unpacking: 1 MiB becomes 1 GiB.
    pytest.param(raw(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), LLMReplyError, "encoded", id="gzip"),
    # With DecodeError alone caught: ValidationError, UnicodeDecodeError, RecursionError, IndexError reach the caller.
    pytest.param(raw(b"<html>"), LLMReplyError, "not-json", id="not-json"),
    pytest.param(raw(b""), LLMReplyError, "not-json", id="empty"),
    pytest.param(raw(b'{"choices":[{"message":{"content":"\xff"}}]}'), LLMReplyError, "not-utf8", id="not-utf8"),
    pytest.param(raw(b'{"usage":' + b"[" * 500_000), LLMReplyError, "too-deep", id="deep-nesting"),
    pytest.param(raw(b'{"choices":[]}'), LLMReplyError, "no-choices", id="no-choices"),
    pytest.param(raw(b'{"error":{"message":"no"}}'), LLMReplyError, "no-choices", id="error-with-200"),
    pytest.param(answer(None), LLMReplyError, "no-content", id="null-content"),
    pytest.param(answer([{"type": "text", "text": "x"}]), LLMReplyError, "wrong-shape", id="content-parts"),
    pytest.param(raw(b'{"choices":7}'), LLMReplyError, "wrong-shape", id="wrong-types"),
    pytest.param(sse(b"data: {}\n\n"), LLMReplyError, "not-json", id="a-stream-unasked"),
    # Without a check of the status: the error's body is read as an answer.
    pytest.param(status(400), LLMStatusError, "http-400", id="400"),
    pytest.param(status(401), LLMStatusError, "http-401", id="401"),
    pytest.param(status(404), LLMStatusError, "http-404", id="404"),
    pytest.param(status(500), LLMStatusError, "http-500", id="500"),
    pytest.param(status(307, headers={"Location": "/v1/x"}), LLMStatusError, "http-307", id="redirect"),
    pytest.param(status(302, headers={"Location": "http://[x"}), LLMStatusError, "http-302", id="bad-redirect"),
    pytest.param(status(429, headers={"Retry-After": "9"}), LLMStatusError, "http-429", id="429"),
    pytest.param(status(503, headers={"Retry-After": "NaN"}), LLMStatusError, "http-503", id="503"),
    # With the error's body awaited to the end: the status is lost in a timeout.
    pytest.param(hang_after_headers(429, {"Retry-After": "9"}), LLMStatusError, "http-429", id="429-then-hangs"),
    pytest.param(status(500, b"x" * 4_000_000), LLMStatusError, "http-500", id="500-with-4-mb"),
]


@pytest.fixture
async def client(http: httpx.AsyncClient, fake_endpoint: FakeEndpoint) -> AsyncIterator[LLMClient]:
    """A client with one slot, so that a request which never ends would block the next one."""
    client = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=5.0, max_concurrency=1)
    yield client
    await client.aclose()


@pytest.mark.parametrize(("fault", "error", "problem"), FAULTS)
@pytest.mark.parametrize("warm", [pytest.param(False, id="fresh"), pytest.param(True, id="kept-alive")])
async def test_a_fault_is_told_in_time_and_the_next_question_is_answered(
    client: LLMClient,
    fake_endpoint: FakeEndpoint,
    fault: Behaviour,
    error: type[LLMError],
    problem: str,
    warm: bool,
) -> None:
    """The call ends by its deadline with the error of that fault; the one slot is free for the very next question."""
    if warm:
        await client.chat(HELLO)
    fake_endpoint.always(fault)
    begun = time.monotonic()
    with pytest.raises(error) as caught:
        await client.chat(HELLO, timeout_seconds=SECONDS)
    took = time.monotonic() - begun
    fake_endpoint.always(answer("well again"))
    assert (await client.chat(HELLO)).content == "well again"
    assert caught.value.problem == problem
    assert took < SECONDS + 2.0, "a guard against hanging, not a measurement"


async def test_the_largest_answer_that_is_allowed_is_read(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """Exactly 1 MiB is an answer; would catch a limit that is off by one."""
    small = len(await _body_of("", client, fake_endpoint))
    reply = "x" * (MAX_BODY_BYTES - small)
    assert len(await _body_of(reply, client, fake_endpoint)) == MAX_BODY_BYTES


async def _body_of(content: str, client: LLMClient, fake: FakeEndpoint) -> bytes:
    sent = b""

    async def behave(exchange: Any) -> None:  # noqa: ANN401 - a behaviour
        nonlocal sent
        sent = b'{"choices":[{"message":{"content":"' + content.encode() + b'"}}]}'
        await exchange.respond(200, sent)

    fake.always(behave)
    assert (await client.chat(HELLO)).content == content
    return sent


async def test_a_server_that_comes_back_is_asked_again(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """Down and up again on the same port; would catch a client that keeps asking its dead connections."""
    assert (await client.chat(HELLO)).content == "hello"
    fake_endpoint.stop()
    with pytest.raises(LLMConnectionError) as caught:
        await client.chat(HELLO, timeout_seconds=SECONDS)
    fake_endpoint.start()
    assert (await client.chat(HELLO)).content == "hello"
    assert caught.value.problem == "connection-refused"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://no-such-host.invalid/v1", id="no-such-name"),
        pytest.param(f"http://{'a' * 64}.invalid/v1", id="label-too-long"),
        pytest.param("https://no-such-host.invalid/v1", id="with-tls"),
    ],
)
async def test_a_name_that_does_not_resolve_is_a_connection_error(http: httpx.AsyncClient, url: str) -> None:
    """DNS that fails says so; would catch a gaierror or UnicodeError that reaches the caller."""
    with pytest.raises(LLMError) as caught:
        await llm_client(http, url, model="m", timeout_seconds=5.0, max_attempts=1).chat(HELLO)
    assert isinstance(caught.value, LLMConnectionError)
    assert caught.value.problem == "dns-failed"


def _server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType] - pyOpenSSL, not here
    return context


async def test_a_certificate_that_is_not_trusted_is_a_connection_error(http: httpx.AsyncClient) -> None:
    """One try, and the reason in words; would catch a client that does not verify, or that tries again."""
    with FakeEndpoint(tls=_server_tls(trustme.CA())) as fake:
        with pytest.raises(LLMConnectionError, match=r"TLS failed: .*certificate") as caught:
            await llm_client(http, fake.url, model="m", timeout_seconds=5.0).chat(HELLO)
        assert caught.value.problem == "tls-failed"
        assert fake.requests == []


async def test_a_certificate_that_is_trusted_serves() -> None:
    """The same server with a context that trusts it answers, on one kept-alive connection."""
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)  # pyright: ignore[reportUnknownMemberType] - as above
    with FakeEndpoint(tls=_server_tls(authority)) as fake:
        async with make_http_client(max_connections=1, ssl_context=trust) as http:
            client = llm_client(http, fake.url, model="m", timeout_seconds=5.0)
            for _ in range(3):
                assert (await client.chat(HELLO)).content == "hello"
            assert fake.connections == 1


async def test_tls_to_a_plain_server_is_a_connection_error(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """`https://` to a port that speaks HTTP says that TLS failed."""
    url = fake_endpoint.url.replace("http://", "https://")
    async with make_http_client(max_connections=1) as http:
        with pytest.raises(LLMConnectionError):
            await llm_client(http, url, model="m", timeout_seconds=5.0, max_attempts=1).chat(HELLO)
    assert (await client.chat(HELLO)).content == "hello"


async def test_a_handshake_that_hangs_ends_by_the_deadline(http: httpx.AsyncClient) -> None:
    """A server that takes the connection and never shakes hands; would catch a connect without a lease."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = llm_client(http, f"https://127.0.0.1:{port}/v1", model="m", timeout_seconds=5.0)
    with pytest.raises(LLMTimeoutError):
        await client.chat(HELLO, timeout_seconds=SECONDS)
    await client.aclose(timeout_seconds=1.0)
    assert client.under_way == 0
    server.close()
    await server.wait_closed()
