"""Log lines on their way to stderr: written by a thread, so that who reads them slowly holds no decision up."""

import threading
import time
from typing import Any, Protocol

MAX_BYTES = 4 << 20
"""Of lines that wait to be written: some ten thousand. Beyond it new ones are dropped and counted."""

LINGER_SECONDS = 0.005
"""Lines that come so soon after another go in one system call with it."""

CLOSE_SECONDS = 2.0


class Sink(Protocol):
    """A stream without a buffer of its own: `write` may take only a part, and says how much."""

    def write(self, data: bytes, /) -> int | None: ...


class LogWriter:
    """Takes lines from any thread; never waits and never raises.

    A full disk and a pipe that nobody empties would else be met inside a request, which the one turned into a 500 and
    the other stopped together with everything else. What such a stream does not take is dropped, and `dropped` counts
    the lines.
    """

    def __init__(self, stream: Sink, *, max_bytes: int = MAX_BYTES, linger_seconds: float = LINGER_SECONDS) -> None:
        """`stream` is not closed here."""
        self._stream = stream
        self._max_bytes = max_bytes
        self._linger_seconds = linger_seconds
        self._lines: list[bytes] = []
        self._bytes = 0
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._empty = threading.Event()
        self._empty.set()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Lines that were never written."""

    def write(self, line: bytes) -> None:
        """`line` has its newline."""
        with self._lock:
            if self._bytes + len(line) > self._max_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            if len(self._lines) > 1:
                return  # whoever brought the first one has woken the thread
            self._empty.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
                self._thread.start()
        self._awake.set()

    def flush(self, timeout_seconds: float = CLOSE_SECONDS) -> bool:
        """Waits until all is written; False where that takes longer than `timeout_seconds`."""
        return self._empty.wait(timeout_seconds)

    def _work(self) -> None:
        while True:
            self._awake.wait()
            time.sleep(self._linger_seconds)
            self._awake.clear()
            with self._lock:
                lines, self._lines = self._lines, []
            taken = self._put(b"".join(lines))
            with self._lock:
                self._bytes -= sum(map(len, lines))
                self.dropped += 0 if taken else len(lines)
                if not self._lines:
                    self._empty.set()

    def _put(self, data: bytes) -> bool:
        try:
            while data:
                data = data[self._stream.write(data) or 0 :]
        except (OSError, ValueError):  # a full disk, a pipe whose reader is gone, a stream that is closed
            return False
        return True


class LineLogger:
    """What structlog's chain ends in, and the factory of it: every level is written the same way."""

    def __init__(self, writer: LogWriter) -> None:
        def write(line: bytes) -> None:
            writer.write(line + b"\n")

        self.msg = self.debug = self.info = self.warning = self.error = self.critical = write

    def __call__(self, *_: Any) -> "LineLogger":  # noqa: ANN401 - what structlog passes to a logger factory
        return self
