"""One run, from start to end, in a thread: plain blocking code that no event loop can interrupt half-way.

Why a thread: asyncio's own subprocesses depend on child watchers and, with uvloop, on other code; cancelling one in the
middle of its start can leave a child. Here a caller may leave at any moment, and the thread still sees to the end.
"""

import errno
import logging
import threading
import time
from collections.abc import Callable

from service.process.errors import ProcessError, ProcessTimeoutError
from service.process.job import Job, Limits, ProcessResult
from service.process.pipes import Pipes
from service.process.tree import Exit, ProcessTree

POLL_SECONDS = 0.05
"""How soon a stop is seen, or the end of a program whose pipes somebody still holds open."""

EXIT_SECONDS = 0.002
"""How soon the end of a program is seen that closed its pipes: most end right after it."""

TOLD_SECONDS = 0.01
"""A shorter wait for a slot is not worth a word."""

_log = logging.getLogger(__name__)


class Run:
    """Works off one job. `deliver` is called exactly once, as soon as the outcome is known and before cleaning up;
    `gone` exactly once, when nothing is left. Both are called in the run's thread."""

    def __init__(
        self,
        job: Job,
        limits: Limits,
        *,
        deadline: float,
        deliver: Callable[[ProcessResult | ProcessError], None],
        gone: Callable[[], None],
    ) -> None:
        """`deadline` is on `time.monotonic`; what the job's time is more than is left to it was the wait for a slot."""
        self._job = job
        self._limits = limits
        self._deadline = deadline
        self._run_seconds = max(deadline - time.monotonic(), 1e-3)
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
                if not tree.end(grace_seconds=self._limits.grace_seconds):
                    _log.error("%s could not be ended", self._job.name)
        finally:
            self._job.workspace.remove()
            self._gone()

    def _started(self) -> ProcessTree:
        job, name = self._job, self._job.name
        if self._stop.is_set():
            raise ProcessError("stopped", f"{name} was not started: the service is shutting down or nobody waits")
        try:
            job.workspace.make()
        except OSError as error:
            why = error.strerror or str(error)
            raise ProcessError("cannot-start", f"no working directory for {name}: {why}") from None
        try:
            return ProcessTree(job.argv, env=job.env, cwd=job.workspace.work, mark=job.workspace.root.name)
        except FileNotFoundError:
            why = "is not there (PATH was searched), or the interpreter that its first line names is not"
            raise ProcessError("not-found", f"{name} {why}") from None
        except PermissionError:
            raise ProcessError("not-executable", f"{name} is not executable") from None
        except OSError as error:
            if error.errno in {errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP}:
                raise ProcessError("not-executable", f"{name} cannot be executed: {error.strerror}") from None
            raise ProcessError("cannot-start", f"{name} cannot be started: {error.strerror or error}") from None
        except ValueError:
            why = "an argument or a variable holds a NUL"
            raise ProcessError("cannot-start", f"{name!r} cannot be started: {why}") from None

    def _attend(self, tree: ProcessTree) -> ProcessResult | ProcessError:
        try:
            with Pipes(tree, self._job.stdin, self._limits) as pipes:
                return self._follow(tree, pipes)
        except OSError as error:  # no descriptor left for the selector, or a pipe that breaks in a way of its own
            return ProcessError("cannot-start", f"{self._job.name} cannot be followed: {error.strerror or error}")

    def _follow(self, tree: ProcessTree, pipes: Pipes) -> ProcessResult | ProcessError:
        name, limits = self._job.name, self._limits
        ended: Exit | None = None
        read_until = self._deadline
        while True:
            now = time.monotonic()
            if ended is None and (ended := tree.exited()) is not None:
                # What it left in the pipes is read at once; a child of its own that holds them open gets a moment.
                read_until = min(now + limits.drain_seconds, self._deadline)
                pipes.close_stdin()
            if ended is not None and (pipes.at_end or now >= read_until):
                stderr = bytes(pipes.stderr[-limits.max_stderr_bytes :])
                return ProcessResult(
                    exit_code=ended.code, signal=ended.signal, stdout=bytes(pipes.stdout), stderr=stderr
                )
            if self._stop.is_set():
                return ProcessError("stopped", f"{name} was stopped")
            if now >= self._deadline:
                return self._timed_out()
            pipes.move(min(EXIT_SECONDS if pipes.at_end else POLL_SECONDS, read_until - now))
            if pipes.flood:
                return ProcessError("output-too-large", f"{name} wrote more than {pipes.flood}")

    def _timed_out(self) -> ProcessTimeoutError:
        text = f"{self._job.name} did not end within {self._job.timeout_seconds:.3g} s"
        waited_seconds = self._job.timeout_seconds - self._run_seconds
        if waited_seconds >= TOLD_SECONDS:
            text += f", {waited_seconds:.3g} s of which it waited for a slot"
        return ProcessTimeoutError(text, run_seconds=self._run_seconds)
