"""A tiny HTTP/1.1 client for load tests: it costs next to nothing, so that it measures the service and not itself."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `seconds` from the first byte sent to the last one received."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body, parsed."""
        return json.loads(self.body)


class PlainClient:
    """One kept-alive connection, made anew when the server closes it. A context manager; one request at a time."""

    def __init__(self, url: str, *, token: str = "") -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._more = f"Authorization: Bearer {token}\r\n" if token else ""
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        """Connects at the first request."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Closes the connection at once: who waits for an answer leaves without it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def send(self, method: str, path: str, body: bytes = b"") -> None:
        """Sends a request whose answer is read by `read`, or never."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{self._more}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def read(self, started: float) -> Answer:
        """The answer to what was sent at `started` (of `time.perf_counter`)."""
        assert self._reader is not None
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        seconds = time.perf_counter() - started
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(first.split(" ")[1]), headers, body, seconds)

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        """A request and its answer; `body` is sent as JSON, or as it is where it is bytes."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
        started = time.perf_counter()
        await self.send(method, path, data)
        return await self.read(started)
