"""A load balancer as a Kubernetes Service is one: it chooses for each connection, and never looks at requests.

Endpoints are those that answer 200 to /readyz, as the kubelet's readiness probe finds out, and are not being deleted.
A connection stays with its endpoint for as long as it lasts, also when that one has left: kube-proxy does not cut
what is established. Nothing is tried twice.
"""

import asyncio
import contextlib
import itertools
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx


class Balancer:
    """A context manager on the test's event loop; `url` is where clients connect."""

    def __init__(self, *, probe_seconds: float = 0.1, propagation_seconds: float = 0.3) -> None:
        """How often it probes, and how long it takes until a deletion is known to it."""
        self._probe_seconds = probe_seconds
        self._propagation_seconds = propagation_seconds
        self._ready: dict[str, asyncio.Event] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._turns = itertools.count()
        self._server: asyncio.Server | None = None
        self.url = ""
        self.chosen: dict[str, int] = {}
        """Connections by endpoint."""

    async def __aenter__(self) -> Self:
        """Listens on a free port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Cuts all connections."""
        assert self._server is not None
        self._server.close()
        tasks = [*self._probes.values(), *self._leaving, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def join(self, url: str) -> None:
        """A new pod; returns when its first connection may come."""
        self._ready[url] = asyncio.Event()
        self._probes[url] = asyncio.create_task(self._probe(url))
        await self._ready[url].wait()

    def leave(self, url: str) -> None:
        """The pod is being deleted: no new connection for it, once that is known here."""

        async def later() -> None:
            await asyncio.sleep(self._propagation_seconds)
            self._probes.pop(url).cancel()
            del self._ready[url]

        task = asyncio.create_task(later())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _probe(self, url: str) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0, headers={"Connection": "close"}) as client:
            while True:
                try:
                    ready = (await client.get(f"{url}/readyz")).status_code == 200
                except httpx.TransportError:
                    ready = False
                if ready:
                    self._ready[url].set()
                else:
                    self._ready[url].clear()
                await asyncio.sleep(self._probe_seconds)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:  # asyncio.start_server would print it; only `__aexit__` cancels
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ready = [url for url, event in self._ready.items() if event.is_set()]
        if not ready:
            return
        url = ready[next(self._turns) % len(ready)]
        self.chosen[url] = self.chosen.get(url, 0) + 1
        address = urlsplit(url)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            return
        ways = [
            asyncio.create_task(_pump(reader, upstream_writer)),
            asyncio.create_task(_pump(upstream_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            upstream_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side closes or resets."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
