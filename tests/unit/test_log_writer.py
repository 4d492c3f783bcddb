"""Log lines are written in order by a thread; a stream that takes nothing costs lines and never a request."""

import os
import threading

import pytest

from service.logs.writer import LogWriter


class Memory:
    """A stream that keeps what it is given, some bytes at a time."""

    def __init__(self, most: int = 1 << 20) -> None:
        self.got = b""
        self._most = most

    def write(self, data: bytes, /) -> int:
        """Takes at most so many bytes at once, as a pipe does."""
        self.got += data[: self._most]
        return min(len(data), self._most)


class Full:
    """A disk with no room."""

    def write(self, data: bytes, /) -> int:
        """Fails."""
        raise OSError(28, "No space left on device")


def test_lines_come_in_order_from_every_thread() -> None:
    """Nothing is lost or mixed, whoever writes: catches a line that is cut by a write which took only a part of it."""
    memory = Memory(most=7)
    writer = LogWriter(memory, linger_seconds=0.0)

    def write(name: int) -> None:
        for n in range(200):
            writer.write(b"%d %d\n" % (name, n))

    threads = [threading.Thread(target=write, args=[name]) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush()
    lines = [tuple(map(int, line.split())) for line in memory.got.splitlines()]
    assert len(lines) == 800
    for name in range(4):
        assert [n for who, n in lines if who == name] == list(range(200))
    assert writer.dropped == 0


def test_a_full_disk_costs_lines_only() -> None:
    """An error of the stream is counted and raised to nobody: catches a decision that fails because of its log line."""
    writer = LogWriter(Full(), linger_seconds=0.0)
    writer.write(b"one\n")
    assert writer.flush()
    writer.write(b"two\n")
    assert writer.flush()
    assert writer.dropped == 2


def test_a_reader_that_stalls_costs_lines_only() -> None:
    """A full pipe is waited for by the thread alone, and what waits is bounded; once it is read again, lines go on.

    Catches a write that blocks the event loop, and memory that grows while nobody reads.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb", buffering=0) as stream:
        writer = LogWriter(stream, max_bytes=300_000, linger_seconds=0.0)
        for _ in range(1000):
            writer.write(b"x" * 999 + b"\n")
        assert writer.dropped > 500
        assert not writer.flush(0.05)
        read: list[bytes] = []
        reading_on = threading.Thread(target=lambda: read.extend(reader))
        reading_on.start()
        assert writer.flush(10.0)
        stream.close()
        reading_on.join()
        assert len(read) + writer.dropped == 1000


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_what_waits_is_bounded(size: int) -> None:
    """One line beyond the bound is dropped, all others are written: catches a bound that lets the first one pass."""
    memory = Memory()
    writer = LogWriter(memory, linger_seconds=0.0)
    writer.write(b"x" * size)
    assert writer.flush()
    assert len(memory.got) + size * writer.dropped == size
