"""uvicorn's HTTP protocol, with the limits on what comes in that httptools does not have: size, time, connections."""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
"""h11's own limit is the same; what is piled up without one costs memory, and time that grows with its square."""

HEAD_SECONDS = 10.0
"""From the connection, or the first byte of a later request, to the end of its head: one packet as a rule."""

BODY_SECONDS = 30.0
"""From the head to the end of the body: 8 MiB, the most that is taken, at 2 Mbit/s."""

MAX_IDLE = 512
"""Connections that have no complete request, idle ones included. A process may often open no more than 1,024 files,
and a client that sends its request at once is in this state for a millisecond."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses heads and trailers of more than `MAX_HEAD_BYTES`, and requests that are not complete in time.

    Where more than `max_idle` connections have no complete request, the one that has been so for longest is closed.
    """

    head_seconds = HEAD_SECONDS
    body_seconds = BODY_SECONDS
    max_idle = MAX_IDLE
    _idle: ClassVar[dict["BoundedProtocol", None]] = {}
    _head_bytes = 0
    _trailer_bytes = 0
    _completed = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio's transports share a base only, and uvicorn narrows it too
        """The first request is awaited."""
        super().connection_made(transport)
        self._await_request()
        self._expect_within(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._idle.pop(self, None)
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what comes until a head is complete; one that came whole is at most one read too long."""
        completed = self._completed
        super().data_received(data)
        if not self._in_head or self._completed != completed or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("Request head too large.")

    def on_message_begin(self) -> None:
        """A later request begins, or the first one."""
        super().on_message_begin()
        self._expect_within(self.head_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Fields that come after the body are as bounded as those before it, and of no use."""
        if self._in_head:
            super().on_header(name, value)
            return
        self._trailer_bytes += len(name) + len(value)
        if self._trailer_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Request trailer too large.")

    def on_headers_complete(self) -> None:
        """The body is limited in size by the application."""
        self._in_head = False
        self._expect_within(self.body_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete; the next one's head begins."""
        self._in_head = True
        self._completed += 1
        self._head_bytes = self._trailer_bytes = 0
        self._idle.pop(self, None)
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next request is awaited, for as long as keep-alive lasts."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._await_request()

    def _await_request(self) -> None:
        self._idle.pop(self, None)
        self._idle[self] = None
        if len(self._idle) > self.max_idle:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.close()

    def _expect_within(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self.pipeline:
            return  # an earlier request is still being answered, and this one is kept from coming in meanwhile
        if not self.transport.is_closing():
            self.send_400_response("Request not complete in time.")
