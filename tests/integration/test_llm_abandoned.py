"""Callers that leave, and what becomes of their requests: none is cancelled, and none blocks the next one."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from service.llm.client import LLMClient
from service.llm.errors import LLMError, LLMTimeoutError
from service.llm.transport import make_http_client
from service.llm.wire import ChatMessage
from tests.support.fake_behaviours import answer, hang, hang_after_headers, slow, trickle
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour
from tests.support.llm_client import llm_client

HELLO = [ChatMessage(role="user", content="hello")]
SLOTS = 8

ABANDONED = 600
"""The defect that this would catch filled the pool within 100; `tests/load/abandoned.py` does 5,000 and more."""


@pytest.fixture
async def client(fake_endpoint: FakeEndpoint) -> AsyncIterator[LLMClient]:
    """A client whose pool has exactly as many connections as it has slots."""
    async with make_http_client(max_connections=SLOTS) as http:
        client = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=20.0, max_concurrency=SLOTS)
        yield client
        await client.aclose(timeout_seconds=1.0)


async def _settled(client: LLMClient) -> None:
    for _ in range(10_000):
        if not client.under_way:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("requests that were left do not end")


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(hang(), id="no-answer"),
        pytest.param(hang_after_headers(), id="no-body"),
        pytest.param(trickle(pause=0.01), id="trickle"),
        pytest.param(trickle(pause=0.01, headers_too=True), id="trickled-headers"),
    ],
)
async def test_a_caller_that_leaves_stops_costing_anything(
    client: LLMClient, fake_endpoint: FakeEndpoint, behaviour: Behaviour
) -> None:
    """Its request ends at once and closes its connection, long before its deadline, so that the server can stop.

    Would catch a request that holds slot and connection, and keeps the server busy, until its timeouts.
    """
    fake_endpoint.always(behaviour)
    call = asyncio.create_task(client.chat(HELLO))
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.requests) == 1)
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await _settled(client)
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: fake.left_early == 1 and fake.open_connections == 0)


async def test_the_caller_is_free_at_its_deadline(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """The answer to a call without time is an LLMTimeoutError that names the time and what was waited for."""
    fake_endpoint.always(hang())
    with pytest.raises(LLMTimeoutError, match=r"within 0\.2 s.*waiting for the answer") as caught:
        await client.chat(HELLO, timeout_seconds=0.2)
    assert caught.value.problem == "timeout"


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_no_time_is_no_request(client: LLMClient, fake_endpoint: FakeEndpoint, seconds: float) -> None:
    """Where no time is left, nothing is sent."""
    with pytest.raises(LLMTimeoutError):
        await client.chat(HELLO, timeout_seconds=seconds)
    assert fake_endpoint.connections == 0


async def test_no_more_than_the_limit_are_in_flight(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """With 8 slots the ninth question waits, and is asked when one is free."""
    fake_endpoint.always(slow(answer("yes"), 0.05))
    calls = [asyncio.create_task(client.chat(HELLO)) for _ in range(3 * SLOTS)]
    await asyncio.sleep(0.02)
    assert client.under_way == SLOTS
    await asyncio.gather(*calls)
    assert fake_endpoint.connections <= SLOTS


async def test_the_wait_for_a_slot_ends_by_the_deadline(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """A call that never got a slot fails as `queue-timeout`; the others are not disturbed."""
    fake_endpoint.always(slow(answer("yes"), 0.5))
    calls = [asyncio.create_task(client.chat(HELLO)) for _ in range(SLOTS)]
    await asyncio.sleep(0.01)
    with pytest.raises(LLMTimeoutError) as caught:
        await client.chat(HELLO, timeout_seconds=0.1)
    assert caught.value.problem == "queue-timeout"
    assert {reply.content for reply in await asyncio.gather(*calls)} == {"yes"}
    assert len(fake_endpoint.requests) == SLOTS


async def test_the_wait_for_a_slot_may_be_cancelled(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """A hundred callers that give up waiting leave every slot as it was; would catch a slot lost to a cancel."""
    fake_endpoint.always(slow(answer("yes"), 0.2))
    calls = [asyncio.create_task(client.chat(HELLO)) for _ in range(SLOTS)]
    await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(client.chat(HELLO)) for _ in range(100)]
    await asyncio.sleep(0.01)
    for call in waiting:
        call.cancel()
    await asyncio.gather(*calls, *waiting, return_exceptions=True)
    fake_endpoint.always(slow(answer("again"), 0.05))
    again = [asyncio.create_task(client.chat(HELLO)) for _ in range(SLOTS)]
    await asyncio.sleep(0.02)
    assert client.under_way == SLOTS
    assert {reply.content for reply in await asyncio.gather(*again)} == {"again"}


@pytest.mark.parametrize(
    "connections", [pytest.param(SLOTS, id="a-connection-for-each-slot"), pytest.param(2, id="too-few-connections")]
)
async def test_the_pool_still_serves_after_hundreds_of_abandoned_requests(
    fake_endpoint: FakeEndpoint, connections: int
) -> None:
    """Cancelled and timed out at random moments; then all slots and connections serve as on the first day.

    Would catch encode/httpcore#1093: a request that is cancelled while others wait for a connection leaves the pool
    full for good, and every later one fails.
    """
    async with make_http_client(max_connections=connections) as http:
        client = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=20.0, max_concurrency=SLOTS)
        await _abandon_many(client, fake_endpoint)
        fake_endpoint.always(answer("well"))
        begun = time.monotonic()
        replies = await asyncio.gather(*(client.chat(HELLO) for _ in range(10 * SLOTS)))
        assert {reply.content for reply in replies} == {"well"}
        assert time.monotonic() - begun < 10, "a guard against hanging, not a measurement"


async def _abandon_many(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    source = random.Random(7)
    kinds = [hang(), hang_after_headers(), trickle(pause=0.01), slow(answer("late"), 0.005)]
    fake_endpoint.choose(lambda _: source.choice(kinds))
    seen: Counter[str] = Counter()

    async def leave(number: int) -> None:
        moment = 0.02 * source.random()
        if number % 2:
            call = asyncio.create_task(client.chat(HELLO))
            await asyncio.sleep(moment)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            seen["cancelled" if call.cancelled() else "done"] += 1
            return
        try:
            await client.chat(HELLO, timeout_seconds=0.001 + moment)
        except LLMError as error:
            seen[error.problem] += 1

    for start in range(0, ABANDONED, 50):
        await asyncio.gather(*(leave(number) for number in range(start, start + 50)))
    await _settled(client)
    assert seen["cancelled"] > ABANDONED // 4
    assert seen["timeout"] + seen["queue-timeout"] > ABANDONED // 4


async def test_closing_waits_for_what_is_under_way(client: LLMClient, fake_endpoint: FakeEndpoint) -> None:
    """`aclose` lets an answer that is on its way arrive, and ends at its limit what does not come."""
    fake_endpoint.then(slow(answer("just in time"), 0.1), hang())
    arriving = asyncio.create_task(client.chat(HELLO))
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.requests) == 1)
    hanging = asyncio.create_task(client.chat(HELLO))
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.requests) == 2)
    begun = time.monotonic()
    await client.aclose(timeout_seconds=0.4)
    assert time.monotonic() - begun < 5
    assert (await arriving).content == "just in time"
    with pytest.raises(LLMTimeoutError):
        await hanging
    assert client.under_way == 0


async def test_two_clients_on_one_pool_do_not_wait_for_each_other(
    http: httpx.AsyncClient, fake_endpoint: FakeEndpoint
) -> None:
    """With all slots of one client busy, another one that was lent the same connections is served at once."""
    busy = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=20.0, max_concurrency=4)
    free = llm_client(http, fake_endpoint.url, model="m", timeout_seconds=5.0, max_concurrency=4)
    fake_endpoint.then(*[hang() for _ in range(4)])
    calls = [asyncio.create_task(busy.chat(HELLO)) for _ in range(6)]
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.requests) == 4)
    assert (await free.chat(HELLO)).content == "hello"
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await busy.aclose(timeout_seconds=0.5)
