"""How running a program can fail; each class names its `problem`, a short kebab-case word.

PointsmanError
└── ProcessError                    a program brought no output that may be used
    ├── ProcessNotFoundError        `not-found`: no such program
    ├── ProcessNotExecutableError   `not-executable`: it is there, and cannot be run
    ├── ProcessStartError           `cannot-start`: no memory, no process, no descriptor, no disk for it
    ├── ProcessQueueFullError       `queue-full`: as many wait for a slot as may wait
    ├── ProcessTimeoutError         `timeout` or, where it waited for a slot and never ran, `queue-timeout`
    ├── ProcessOutputError          `output-too-large`
    ├── ProcessStoppedError         `stopped`: the runner was closed
    └── ProcessExitError            `exit-status` or `killed-by-signal`: it ended, but not well
"""

from service.contract.errors import PointsmanError


class ProcessError(PointsmanError):
    """A program brought no output that may be used; `str()` is for people."""

    problem = "process"


class ProcessNotFoundError(ProcessError):
    """No such program, or the interpreter that a script's first line names is missing."""

    problem = "not-found"


class ProcessNotExecutableError(ProcessError):
    """It is there, and cannot be run: a directory, no permission, not a program."""

    problem = "not-executable"


class ProcessStartError(ProcessError):
    """The system has no memory, process, thread, descriptor or disk left for it, or an argument holds a NUL."""

    problem = "cannot-start"


class ProcessQueueFullError(ProcessError):
    """Every slot is taken, and as many runs wait for one as may wait."""

    problem = "queue-full"


class ProcessTimeoutError(ProcessError):
    """The time ran out; the program was given `run_seconds` of it, 0 where it never got a slot."""

    def __init__(self, message: str, *, run_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.run_seconds = run_seconds
        self.problem = "timeout" if run_seconds > 0 else "queue-timeout"


class ProcessOutputError(ProcessError):
    """It wrote more than it may."""

    problem = "output-too-large"


class ProcessStoppedError(ProcessError):
    """The runner was closed while it waited or ran."""

    problem = "stopped"


class ProcessExitError(ProcessError):
    """It ended by itself or by somebody's signal, and not well. `exit_code` or `signal` says how."""

    def __init__(self, message: str, *, exit_code: int | None, signal: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.signal = signal
        self.problem = "exit-status" if signal is None else "killed-by-signal"
