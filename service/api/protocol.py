"""uvicorn's HTTP protocol, with the limits on what comes in that httptools does not have: size, time, connections."""

import asyncio
from typing import ClassVar

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES = 65_536
"""h11's own limit is the same; what is piled up without one costs memory, and time that grows with its square."""

MAX_TARGET_BYTES = 8_192
"""Path and query; none that is of use has a tenth of it, and the router remembers the last thousand paths."""

_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


class BoundedProtocol(HttpToolsProtocol):
    """Refuses heads and trailers of more than `MAX_HEAD_BYTES`, targets of more than `MAX_TARGET_BYTES`, requests that
    are not complete in time, and clients that do not read in time.

    Where more than `max_idle` connections wait for their client, the one that has waited longest is closed; where
    bodies of more than `max_unfinished_bytes` are on the way, the one with the largest.
    """

    head_seconds = 10.0
    """From the connection, or the first byte of a later request, to the end of its head: one packet as a rule."""
    body_seconds = 30.0
    """From the head to the end of the body: 8 MiB, the most that is taken, at 2 Mbit/s."""
    read_seconds = 30.0
    """For a client to take an answer that the system's buffers have no room for: one that never does would hold its
    connection for ever."""
    max_idle = 512
    """Connections that wait for their client: without a complete request, idle, or with an answer that is not read. A
    process may often open no more than 1,024 files, and a client that sends its request at once is in this state for a
    millisecond."""
    max_unfinished_bytes = 64 * 2**20
    """Of all bodies that are still coming in: eight of the largest that are taken, and not one for each connection."""
    _idle: ClassVar[dict["BoundedProtocol", None]] = {}
    _unfinished_bytes: ClassVar[int] = 0
    body_bytes = 0
    _refused = False
    _head_bytes = 0
    _trailer_bytes = 0
    _completed = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio's transports share a base only, and uvicorn narrows it too
        super().connection_made(transport)
        self._await_client()
        self._expect_within(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        self._stop_timer()
        self._stop_read_timer()
        self.forget_body()
        if self._answered is not None:
            # uvicorn tells only the last request of a pipeline, and the answer to this one would still be written.
            self._answered.disconnected = True
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()
        self._await_client()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport.is_closing():
            return
        self._stop_read_timer()
        if self._in_head and not self.cycle.response_complete:
            self._idle.pop(self, None)  # its request is here, and it is we who are waited for

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        self._expect_reading()  # the connection closes only when the client has read this

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_reading()

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
        super().on_message_begin()
        self._expect_within(self.head_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES and not self._refused:
            self._refused = True
            self.send_400_response("Request target too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Fields that come after the body are as bounded as those before it, and of no use."""
        if self._in_head:
            super().on_header(name, value)
            return
        self._trailer_bytes += len(name) + len(value)
        if self._trailer_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Request trailer too large.")

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._refused:
            return
        upgrades = self.parser.should_upgrade()  # pyright: ignore[reportOptionalMemberAccess] - None after the end only
        if upgrades and any(name in _BODY_HEADERS for name, _ in self.headers):
            # The parser takes what follows for another protocol, and from the next packet on for another request.
            self._refused = True
            self.send_400_response("No upgrade of a request with a body.")
            return
        self._expect_within(self.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        super().on_body(body)
        self.body_bytes += len(body)
        BoundedProtocol._unfinished_bytes += len(body)
        if BoundedProtocol._unfinished_bytes > self.max_unfinished_bytes:
            largest = max((self, *self._idle), key=lambda other: other.body_bytes)
            largest.forget_body()
            largest.transport.abort()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._completed += 1
        self._head_bytes = self._trailer_bytes = 0
        self.forget_body()
        self._stop_timer()
        if self._refused:
            return
        if not self.flow.write_paused:
            self._idle.pop(self, None)
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading()
        elif self.cycle.response_complete and not self.flow.write_paused:
            self._await_client()

    def _await_client(self) -> None:
        self._idle.pop(self, None)
        self._idle[self] = None
        if len(self._idle) > self.max_idle:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.abort()  # closing would wait until what it was sent is read

    def forget_body(self) -> None:
        """It has come to its end, or never will: nothing of it is on the way any more."""
        BoundedProtocol._unfinished_bytes -= self.body_bytes
        self.body_bytes = 0

    def _expect_reading(self) -> None:
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self.read_seconds, self.transport.abort)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

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
