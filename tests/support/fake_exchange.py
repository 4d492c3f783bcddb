"""One request to the fake endpoint, and the means to answer it in any way whatever."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RecordedRequest:
    """One request as it arrived. `connection` counts the connections from 1, `nth` the requests on that connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    time: float
    connection: int
    nth: int

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def user_text(self) -> str:
        """The content of the last message."""
        text: str = self.json["messages"][-1]["content"]
        return text


@dataclass(kw_only=True)
class Exchange:
    """What a behaviour works with: the request, and the means to answer it in any way whatever."""

    request: RecordedRequest
    writer: asyncio.StreamWriter
    keep_alive: bool = True
    """Whether the next request may come on this connection; the client is not told."""

    async def send(self, data: bytes) -> None:
        """Sends exactly these bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def respond(
        self,
        status: int = 200,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        """A whole and proper HTTP answer."""
        await self.send(
            head(status, {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}) + body
        )

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.keep_alive = False


Behaviour = Callable[[Exchange], Awaitable[None]]
Chooser = Callable[[RecordedRequest], Behaviour]


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """A status line and header lines, and the empty line after them."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
