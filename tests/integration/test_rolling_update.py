"""Replicas replaced one after the other under steady load, as a rolling update does it."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.balancer import Balancer
from tests.support.fake_behaviours import slow, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.service_process import ServiceProcess

REPLICAS = 3
REQUESTS = int(os.environ.get("POINTSMAN_ROLLING_REQUESTS", "5000"))
WORKERS = 24
PAUSE_SECONDS = 0.06
"""Between two requests of a worker, on average: some 200 requests a second in all, which one core carries."""
PRE_STOP_SECONDS = 1.0
"""The manifests wait 5 s; what matters is that it is longer than the balancer needs to hear of a deletion."""
DRAIN_SECONDS = 1.5
"""The manifests drain for 6 s; what matters is that it is longer than a client lets its connection rest, and than the
balancer needs to hear of a deletion."""
MODEL_SECONDS = 0.25
"""The model takes so long, so that requests are under way whenever the signal comes."""


@dataclass
class Load:
    """What was sent, and what became of it."""

    sent: int = 0
    results: Counter[str] = field(default_factory=Counter[str])
    stop: bool = False

    @property
    def failed(self) -> dict[str, int]:
        return {result: count for result, count in self.results.items() if result != "200"}


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("pre_stop_seconds", "requests"),
    [
        pytest.param(PRE_STOP_SECONDS, REQUESTS, id="with-prestop"),
        pytest.param(0.0, REQUESTS // 3, id="signal-before-the-balancer-knows"),
    ],
)
async def test_a_rolling_update_loses_no_request(
    bare_environ: Mapping[str, str], tmp_path: Path, pre_stop_seconds: float, requests: int
) -> None:
    """While every replica is replaced by SIGTERM, each request is answered: no connection is refused, reset or closed
    on a request. Found without drain_seconds: uvicorn closes kept-alive connections and its listener at the signal.
    """
    load = Load()
    with _model() as environ, ExitStack() as processes:
        starter = _Starter({**bare_environ, **environ}, tmp_path, processes)
        async with Balancer() as balancer:
            running = [await starter.start() for _ in range(REPLICAS)]
            for process in running:
                await balancer.join(process.url)
            async with _steady(load, balancer.url):
                rounds = 0
                while load.sent < requests or rounds < REPLICAS:
                    old = running.pop(0)
                    new = await starter.start()
                    await balancer.join(new.url)
                    running.append(new)
                    balancer.leave(old.url)
                    await asyncio.sleep(pre_stop_seconds)
                    old.signal()
                    assert await asyncio.to_thread(old.wait) == 0
                    rounds += 1
            chosen = dict(balancer.chosen)
    assert load.failed == {}
    assert load.results["200"] == load.sent >= requests
    assert len(chosen) >= 2 * REPLICAS, "every replica was replaced, and each old and new one had connections"


class _Starter:
    def __init__(self, environ: Mapping[str, str], folder: Path, processes: ExitStack) -> None:
        self._environ = environ
        self._folder = folder
        self._processes = processes
        self._number = 0

    async def start(self) -> ServiceProcess:
        """A new one that is ready."""
        self._number += 1
        process = ServiceProcess(self._environ, self._folder / f"{self._number}.log")
        self._processes.push(process)
        await asyncio.to_thread(process.start)
        return process


@contextmanager
def _model() -> Generator[dict[str, str]]:
    """A model server that takes its time; gives the settings for it."""
    with FakeEndpoint() as fake:
        fake.always(slow(verdict("claude", "claude-opus-4-8"), MODEL_SECONDS))
        yield {
            "POINTSMAN_LOCAL_MODEL__ENDPOINT": fake.url,
            "POINTSMAN_LOCAL_MODEL__MODEL": "fake-model",
            "POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY": "64",
            "POINTSMAN_SERVER__DRAIN_SECONDS": str(DRAIN_SECONDS),
            "POINTSMAN_SERVER__LOG_LEVEL": "warning",
        }


@asynccontextmanager
async def _steady(load: Load, url: str) -> AsyncGenerator[None]:
    """Workers that keep their connection, and others that open one for each request, for the length of the block."""
    workers = [
        asyncio.create_task(_work(load, url, random.Random(number), keep_alive=number % 4 != 0))
        for number in range(WORKERS)
    ]
    try:
        yield
    finally:
        load.stop = True
        await asyncio.gather(*workers)


async def _work(load: Load, url: str, chance: random.Random, *, keep_alive: bool) -> None:
    """Nothing is tried twice: what httpx raises is a lost request."""
    headers = {} if keep_alive else {"Connection": "close"}
    async with httpx.AsyncClient(base_url=url, timeout=30.0, trust_env=False, headers=headers) as client:
        while not load.stop:
            load.sent += 1
            try:
                answer = await client.post("/v1/classify", json=_task(chance))
                load.results[str(answer.status_code)] += 1
            except httpx.TransportError as error:
                load.results[repr(error)] += 1
            await asyncio.sleep(chance.expovariate(1 / PAUSE_SECONDS))


def _task(chance: random.Random) -> dict[str, Any]:
    """One in eight asks the model; the others have named what they want, and are answered in a millisecond."""
    task: dict[str, Any] = {"instructions": f"Fix bug number {chance.getrandbits(40)}."}
    if chance.random() > 1 / 8:
        task |= {"agent_type": "codex", "model": "gpt-5.4"}
    return task
