"""One run, from start to end, in a thread: plain blocking code that no event loop can interrupt half-way.

Why a thread: asyncio's own subprocesses depend on child watchers and, with uvloop, on other code; cancelling one in the
middle of its start can leave a child. Here a caller may leave at any moment, and the thread still sees to the end.
"""

import errno
import logging
import os
import selectors
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Self

from service.process.errors import (
    ProcessError,
    ProcessNotExecutableError,
    ProcessNotFoundError,
    ProcessOutputError,
    ProcessStartError,
    ProcessStoppedError,
    ProcessTimeoutError,
)
from service.process.result import ProcessResult
from service.process.tree import Exit, ProcessTree
from service.process.workspace import Workspace

CHUNK = 65536
POLL_SECONDS = 0.05
"""How soon a stop is seen; and the end of a program where the system has no pidfd."""

TOLD_SECONDS = 0.01
"""A shorter wait for a slot is not worth a word."""

STDERR_FLOOD = 256
"""A program that writes this many times what is kept of stderr is ended: reading it would only burn a processor."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to run and within which limits. `deadline` is on `time.monotonic`, sizes in bytes, the rest in seconds.
    `name` is what messages call the program.
    """

    name: str
    argv: Sequence[str]
    stdin: bytes
    env: Mapping[str, str]
    workspace: Workspace
    deadline: float
    timeout_seconds: float
    waited_seconds: float
    max_stdout_bytes: int
    max_stderr_bytes: int
    grace_seconds: float
    drain_seconds: float


class Run:
    """Works off one job. `deliver` is called exactly once, as soon as the outcome is known and before cleaning up;
    `gone` exactly once, when nothing is left. Both are called in the run's thread."""

    def __init__(
        self,
        job: Job,
        *,
        deliver: Callable[[ProcessResult | ProcessError], None],
        gone: Callable[[], None],
    ) -> None:
        self._job = job
        self._deliver = deliver
        self._gone = gone
        self._stop = threading.Event()

    def start(self) -> None:
        """Starts the thread; RuntimeError where the system has none left. It is joined at exit: nothing stays."""
        threading.Thread(target=self._work, name=f"run {self._job.name}").start()

    def stop(self) -> None:
        """Ends the run early; may be called from any thread, more than once."""
        self._stop.set()

    def _work(self) -> None:
        try:
            try:
                tree = self._started()
            except ProcessError as error:
                self._deliver(error)
                return
            try:
                self._deliver(self._attend(tree))
            finally:
                if not tree.end(grace_seconds=self._job.grace_seconds):
                    _log.error("%s could not be ended", self._job.name)
        finally:
            self._job.workspace.remove()
            self._gone()

    def _started(self) -> ProcessTree:
        job = self._job
        program = job.name
        if self._stop.is_set():
            raise ProcessStoppedError(f"{program} was not started: the service is shutting down or nobody waits")
        try:
            job.workspace.make()
        except OSError as error:
            raise ProcessStartError(f"no working directory for {program}: {error.strerror or error}") from None
        try:
            return ProcessTree(job.argv, env=job.env, cwd=job.workspace.work, mark=job.workspace.root.name)
        except FileNotFoundError:
            raise ProcessNotFoundError(
                f"{program} is not there (PATH was searched), or the interpreter that its first line names is not"
            ) from None
        except PermissionError:
            raise ProcessNotExecutableError(f"{program} is not executable") from None
        except OSError as error:
            if error.errno in {errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP}:
                raise ProcessNotExecutableError(f"{program} cannot be executed: {error.strerror}") from None
            raise ProcessStartError(f"{program} cannot be started: {error.strerror or error}") from None
        except ValueError:
            raise ProcessStartError(f"{program!r} cannot be started: an argument or a variable holds a NUL") from None

    def _attend(self, tree: ProcessTree) -> ProcessResult | ProcessError:
        try:
            with _Streams(tree, self._job) as streams:
                return self._follow(tree, streams)
        except OSError as error:  # no descriptor left for the selector, or a pipe that breaks in a way of its own
            return ProcessStartError(f"{self._job.name} cannot be followed: {error.strerror or error}")

    def _follow(self, tree: ProcessTree, streams: "_Streams") -> ProcessResult | ProcessError:
        job = self._job
        ended: Exit | None = None
        drained_by = job.deadline
        while True:
            now = time.monotonic()
            if ended is None and (ended := tree.exited()) is not None:
                # What it left in the pipes is read at once; a child of its own that holds them open gets a moment.
                drained_by = now + job.drain_seconds
                streams.program_ended()
            if ended is not None and (streams.at_end or now >= min(drained_by, job.deadline)):
                return ProcessResult(
                    exit_code=ended.code,
                    signal=ended.signal,
                    stdout=bytes(streams.stdout),
                    stderr=bytes(streams.stderr[-job.max_stderr_bytes :]),
                )
            if self._stop.is_set():
                return ProcessStoppedError(f"{job.name} was stopped")
            if now >= job.deadline:
                return _timed_out(job)
            streams.move(min(POLL_SECONDS, job.deadline - now, drained_by - now))
            if streams.flood:
                return ProcessOutputError(f"{job.name} wrote more than {streams.flood} bytes to {streams.flooded}")


def _timed_out(job: Job) -> ProcessTimeoutError:
    text = f"{job.name} did not end within {job.timeout_seconds:.3g} s"
    if job.waited_seconds >= TOLD_SECONDS:
        text += f", {job.waited_seconds:.3g} s of which it waited for a slot"
    return ProcessTimeoutError(text, run_seconds=max(job.timeout_seconds - job.waited_seconds, 1e-3))


class _Streams:
    """The three pipes of a program: writes stdin, reads the others, never waits for one alone."""

    def __init__(self, tree: ProcessTree, job: Job) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.flood = 0
        self.flooded = ""
        self._tree = tree
        self._job = job
        self._unsent = memoryview(job.stdin)
        self._stderr_bytes = 0
        self._reading = 2
        self._selector = selectors.DefaultSelector()
        self._pidfd: int | None = None

    def __enter__(self) -> Self:
        popen = self._tree.popen
        for stream, take in ((popen.stdout, self._take_stdout), (popen.stderr, self._take_stderr)):
            self._register(stream, selectors.EVENT_READ, take)
        if self._unsent:
            self._register(popen.stdin, selectors.EVENT_WRITE, None)
        else:
            self._close_stdin()
        try:
            self._pidfd = os.pidfd_open(popen.pid)
            self._selector.register(self._pidfd, selectors.EVENT_READ)
        except (AttributeError, OSError):  # another system, an old kernel, a sandbox: the end is seen by polling
            return self
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        if self._pidfd is not None:
            os.close(self._pidfd)

    @property
    def at_end(self) -> bool:
        """Nobody holds stdout or stderr any more."""
        return self._reading == 0

    def program_ended(self) -> None:
        """No more need to write, nor to be told of the end."""
        self._close_stdin()
        if self._pidfd is not None and self._pidfd in self._selector.get_map():
            self._selector.unregister(self._pidfd)

    def move(self, timeout_seconds: float) -> None:
        """Moves what can be moved now, waiting for it no longer than this."""
        for key, _ in self._selector.select(max(timeout_seconds, 0)):
            stream = key.fileobj
            if isinstance(stream, int):  # the pidfd: whoever asks next will see that the program ended
                continue
            if key.data is None:
                self._write()
            elif chunk := os.read(key.fd, CHUNK):
                key.data(chunk)
            else:
                self._selector.unregister(stream)
                self._reading -= 1

    def _register(self, stream: IO[bytes] | None, event: int, take: Callable[[bytes], None] | None) -> None:
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, event, take)

    def _write(self) -> None:
        stdin = self._tree.popen.stdin
        if stdin is None:
            return
        try:
            sent = os.write(stdin.fileno(), self._unsent[:CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to read all, or anything: its answer counts all the same
            self._close_stdin()
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._close_stdin()

    def _close_stdin(self) -> None:
        stdin = self._tree.popen.stdin
        if stdin is None or stdin.closed:
            return
        if stdin in self._selector.get_map():
            self._selector.unregister(stdin)
        stdin.close()

    def _take_stdout(self, chunk: bytes) -> None:
        if len(self.stdout) + len(chunk) > self._job.max_stdout_bytes:
            self.flood, self.flooded = self._job.max_stdout_bytes, "stdout"
            return
        self.stdout += chunk

    def _take_stderr(self, chunk: bytes) -> None:
        self._stderr_bytes += len(chunk)
        if self._stderr_bytes > (limit := self._job.max_stderr_bytes * STDERR_FLOOD):
            self.flood, self.flooded = limit, "stderr"
        self.stderr += chunk
        del self.stderr[: -self._job.max_stderr_bytes - CHUNK]
