"""The three pipes of a running program: stdin is written, the others are read, and none is waited for alone."""

import os
import selectors
from collections.abc import Callable
from typing import IO, Self

from service.process.job import Limits
from service.process.tree import ProcessTree

CHUNK_BYTES = 65_536

STDERR_FLOOD = 256
"""A program that writes this many times what is kept of stderr is ended: reading it would only burn a processor."""


class Pipes:
    """To be used as `with`. `flood` says what the program wrote too much of, and how much it may; empty until then."""

    def __init__(self, tree: ProcessTree, stdin: bytes, limits: Limits) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.flood = ""
        self._stdin, self._outputs = tree.popen.stdin, (tree.popen.stdout, tree.popen.stderr)
        self._limits = limits
        self._unsent = memoryview(stdin)
        self._stderr_bytes = 0
        self._open = 2
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        for stream, take in zip(self._outputs, (self._take_stdout, self._take_stderr), strict=True):
            self._register(stream, selectors.EVENT_READ, take)
        if self._unsent:
            self._register(self._stdin, selectors.EVENT_WRITE, None)
        else:
            self.close_stdin()
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    @property
    def at_end(self) -> bool:
        """Whether nobody holds stdout or stderr any more."""
        return self._open == 0

    def move(self, timeout_seconds: float) -> None:
        """Moves what can be moved now, waiting for it no longer than this."""
        for key, _ in self._selector.select(max(timeout_seconds, 0)):
            if key.data is None:
                self._write(key.fd)
            elif chunk := os.read(key.fd, CHUNK_BYTES):
                key.data(chunk)
            else:
                self._selector.unregister(key.fileobj)
                self._open -= 1

    def _register(self, stream: IO[bytes] | None, event: int, take: Callable[[bytes], None] | None) -> None:
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, event, take)

    def _write(self, descriptor: int) -> None:
        try:
            sent = os.write(descriptor, self._unsent[:CHUNK_BYTES])
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to read all, or anything: its answer counts all the same
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self.close_stdin()

    def close_stdin(self) -> None:
        if self._stdin is None or self._stdin.closed:
            return
        if self._stdin in self._selector.get_map():
            self._selector.unregister(self._stdin)
        self._stdin.close()

    def _take_stdout(self, chunk: bytes) -> None:
        if len(self.stdout) + len(chunk) > (limit := self._limits.max_stdout_bytes):
            self.flood = f"{limit} bytes to stdout"
            return
        self.stdout += chunk

    def _take_stderr(self, chunk: bytes) -> None:
        self._stderr_bytes += len(chunk)
        if self._stderr_bytes > (limit := self._limits.max_stderr_bytes * STDERR_FLOOD):
            self.flood = f"{limit} bytes to stderr"
        self.stderr += chunk
        del self.stderr[: -self._limits.max_stderr_bytes - CHUNK_BYTES]
