"""How running a program can fail.

PointsmanError
└── ProcessError                a program brought no output that may be used; `problem` says why in a short word:
    │                           `not-found`          no such program, or no interpreter that its first line names
    │                           `not-executable`     a directory, no permission, not a program
    │                           `cannot-start`       no memory, process, thread, descriptor or disk for it
    │                           `queue-full`         as many wait for a slot as may wait
    │                           `output-too-large`   it wrote more than it may
    │                           `stopped`            the runner was closed, or nobody waited any more
    │                           `exit-status`        it ended by itself, and not well
    │                           `killed-by-signal`   somebody else ended it
    └── ProcessTimeoutError     `timeout` or, where it waited for a slot and never ran, `queue-timeout`
"""

from service.contract.errors import PointsmanError


class ProcessError(PointsmanError):
    """A program brought no output that may be used; `str()` is for people."""

    def __init__(self, problem: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem


class ProcessTimeoutError(ProcessError):
    """The time ran out; the program was given `run_seconds` of it, 0 where it never got a slot."""

    def __init__(self, message: str, *, run_seconds: float = 0.0) -> None:
        super().__init__("timeout" if run_seconds > 0 else "queue-timeout", message)
        self.run_seconds = run_seconds
