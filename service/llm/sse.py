"""Server-sent events from bytes: bounded, and linear in what comes, however it is cut.

Source: WHATWG HTML, 9.2.6 "Interpreting an event stream". Only `data` is of use here; `event`, `id` and `retry` are
read over. Unlike there, what stands at the end without its empty line counts as an event too: some servers forget it.
"""

import re

from service.llm.errors import too_large

MAX_EVENT_BYTES = 2 * 1_048_576
"""2 MiB. A chunk of a chat has some 300 bytes; a line of 1 MiB is read all the same, what never ends is not."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventDecoder:
    """Feed it bytes in pieces of any size; it gives the data of each event that they complete."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._held = 0
        self._after_cr = False
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end in `chunk`, multi-line data joined by newlines.

        LLMReplyError where one event is larger than the limit.
        """
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        elif not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        events: list[bytes] = []
        for piece in ended:
            self._keep(self._line, piece)
            self._end_line(events)
        if rest:
            self._keep(self._line, rest)
        return events

    def flush(self) -> list[bytes]:
        """What is left when the stream has ended."""
        events: list[bytes] = []
        self._end_line(events)
        self._end_line(events)
        return events

    def _keep(self, pieces: list[bytes], piece: bytes) -> None:
        pieces.append(piece)
        self._held += len(piece)
        if self._held > self._max:
            raise too_large(self._max)

    def _end_line(self, events: list[bytes]) -> None:
        line = b"".join(self._line)
        self._line.clear()
        if self._first:
            line, self._first = line.removeprefix(_BYTE_ORDER_MARK), False
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
            self._held = 0
            return
        self._held -= len(line)
        name, _, value = line.partition(b":")
        if name == b"data":
            self._keep(self._data, value.removeprefix(b" "))
            self._held += 1
