"""One log that is being written: whole lines only, each visible at once, and room kept for the last one."""

import contextlib
import fcntl
import os
from pathlib import Path

RESERVE_BYTES = 4096
"""Kept on the disk beside a log while it is written and given back for its `result` line: a disk that is full takes
no delta any more, but a reader still learns that it is over. One block of most file systems."""


class LogError(Exception):
    """The log cannot be written; `str()` of it says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the log cannot be written: {error.strerror or type(error).__name__}")


class LogFile:
    """Appends lines. While it is open it holds a lock on the file, by which `is_written` knows it in any process."""

    def __init__(self, path: Path) -> None:
        """Raises LogError where it cannot be written, or another process writes it."""
        self._reserve = path.with_name(".reserve")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise LogError(error) from None
        try:
            _lock(self._descriptor)
            self._reserve.write_bytes(bytes(RESERVE_BYTES))
            self._end_line()
        except OSError as error:
            self.close()
            raise LogError(error) from None

    @property
    def empty(self) -> bool:
        return os.fstat(self._descriptor).st_size == 0

    def write(self, lines: bytes) -> None:
        """All of it or nothing. Raises LogError, for example where the disk is full."""
        size = os.fstat(self._descriptor).st_size
        left = memoryview(lines)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise LogError(error) from None

    def write_last(self, lines: bytes) -> None:
        """The same, with the room that was kept for it."""
        self._give_back()
        self.write(lines)

    def close(self) -> None:
        self._give_back()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)

    def _end_line(self) -> None:
        """Where a process died within a line, the next one starts fresh."""
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")


def is_written(path: Path) -> bool:
    """Whether some process is writing this log now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        _lock(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError where it is taken; a file system without locks is written without."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
