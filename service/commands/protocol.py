"""uvicorn's HTTP protocol with a limit on how long the head of a request may be, which httptools does not have."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
"""h11's own limit is the same; what is piled up without one costs memory, and time that grows with its square."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is not complete after `MAX_HEAD_BYTES`, and closes the connection."""

    _head_bytes = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        """Counts what comes until a head is complete; one that came whole is at most one read too long."""
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("Request head too large.")

    def on_headers_complete(self) -> None:
        """The body is limited elsewhere."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next request's head begins."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()
