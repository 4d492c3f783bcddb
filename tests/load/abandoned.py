"""Does the connection pool still serve after thousands of abandoned requests, and how fast?

    python -m tests.load.abandoned --requests 5000

Each request is cancelled, or runs out of time, at a random moment; every server behaviour that could hold it is among
them. Exit 0 where afterwards every slot serves.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter

from service.llm.client import LLMClient
from service.llm.errors import LLMError
from service.llm.transport import make_http_client
from service.llm.wire import ChatMessage
from tests.support.fake_behaviours import answer, hang, hang_after_headers, slow, streamed, trickle
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.llm_client import llm_client

HELLO = [ChatMessage(role="user", content="hello")]


async def _leave(client: LLMClient, number: int, source: random.Random, seen: Counter[str]) -> None:
    moment = 0.03 * source.random()
    call = asyncio.create_task(
        _stream(client) if number % 3 == 0 else _chat(client, moment if number % 3 == 1 else 20.0)
    )
    await asyncio.sleep(moment)
    if number % 3 != 1:
        call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    seen["cancelled" if call.cancelled() else call.result()] += 1


async def _chat(client: LLMClient, seconds: float) -> str:
    try:
        await client.chat(HELLO, timeout_seconds=seconds)
    except LLMError as error:
        return error.problem
    return "answered"


async def _stream(client: LLMClient) -> str:
    try:
        async with client.chat_stream(HELLO) as stream:
            async for _ in stream:
                pass
    except LLMError as error:
        return error.problem
    return "streamed"


async def _run(requests: int, slots: int, seed: int) -> int:
    source = random.Random(seed)
    seen: Counter[str] = Counter()
    kinds = [
        hang(),
        hang_after_headers(),
        trickle(pause=0.01),
        slow(answer("late"), 0.01),
        streamed(*"abc", pause=0.01),
    ]
    with FakeEndpoint() as fake:
        fake.choose(lambda _: source.choice(kinds))
        async with make_http_client(max_connections=slots) as http:
            client = llm_client(http, fake.url, model="m", timeout_seconds=20.0, max_concurrency=slots)
            begun = time.monotonic()
            for start in range(0, requests, 4 * slots):
                await asyncio.gather(
                    *(_leave(client, number, source, seen) for number in range(start, min(requests, start + 4 * slots)))
                )
            print(f"{requests} abandoned in {time.monotonic() - begun:.1f} s: {dict(seen)}")
            await asyncio.sleep(0.2)
            print(f"under way afterwards: {client.under_way}, open connections: {fake.open_connections}")
            fake.always(answer("well"))
            begun = time.monotonic()
            replies = await asyncio.gather(
                *(client.chat(HELLO, timeout_seconds=10.0) for _ in range(20 * slots)), return_exceptions=True
            )
            good = sum(not isinstance(reply, BaseException) for reply in replies)
            print(f"then {good} of {len(replies)} answered in {time.monotonic() - begun:.2f} s")
            await client.aclose()
    return 0 if good == len(replies) else 1


def _main() -> None:
    parser = argparse.ArgumentParser(description="Does the pool still serve after abandoned requests?")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(asyncio.run(_run(arguments.requests, arguments.slots, arguments.seed)))


if __name__ == "__main__":
    _main()
