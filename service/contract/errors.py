"""The one tree of errors that the core raises; `contract/problem.py` and `cli.py` turn them into answers.

PointsmanError                      whatever this service refuses or cannot do, said in words
├── InvalidInputError               what came in has the wrong shape; names the place and what was expected
│   ├── ConfigurationError          … in pointsman.toml, the environment, the catalog or a prompt file
│   └── WrongFileError              … in a file that a command was given
├── NoEligibleCandidateError        nothing in the catalog can ever take this task
├── NoCandidateAvailableError       something could take it, but not now
├── ClassifierFailedError           `strict`, and the configured classifier failed
├── DeadlineExceededError           `strict`, and the time ran out
├── OverloadedError                 too many requests in flight
├── ConflictError                   another outcome is already recorded for that attempt
├── NotFoundError                   no such decision, outcome or execution
├── LocalAgentOffError              an execution is asked for and no endpoint is set
└── StoreUnavailableError           the database cannot take or give anything now
"""

from collections.abc import Sequence
from datetime import datetime

from service.contract.decision import Excluded, Failure


class PointsmanError(Exception):
    """Whatever this service refuses or cannot do; `str()` of it is fit to be shown to a caller.

    `failures` is what was tried before and did not work.
    """

    def __init__(self, message: str, *, failures: Sequence[Failure] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class InvalidInputError(PointsmanError):
    """What came in has the wrong shape. `path` is where (`$.fleet.claude.slots`), `expected` what belongs there."""

    def __init__(self, expected: str, *, path: str = "$") -> None:
        super().__init__(f"{path}: {expected}" if path != "$" else expected)
        self.expected = expected
        self.path = path


class ConfigurationError(InvalidInputError):
    """A setting, the catalog or a prompt file is wrong; `source` is the file or the variable."""

    def __init__(self, expected: str, *, path: str = "$", source: str = "") -> None:
        super().__init__(expected, path=path)
        self.source = source

    def __str__(self) -> str:
        """`source: path: what was expected`."""
        where = [part for part in (self.source, self.path if self.path != "$" else "") if part]
        return ": ".join([*where, self.expected])


class WrongFileError(InvalidInputError):
    """A file that a command was given holds what has the wrong shape; `source` is it and, where known, the line."""

    def __init__(self, expected: str, *, path: str = "$", source: str) -> None:
        super().__init__(expected, path=path)
        self.source = source

    def __str__(self) -> str:
        """`source: path: what was expected`."""
        return ": ".join([self.source, *([self.path] if self.path != "$" else []), self.expected])


class NoEligibleCandidateError(PointsmanError):
    """Nothing in the catalog can ever take this task; `excluded` says why, pair by pair."""

    def __init__(self, message: str, *, excluded: Sequence[Excluded], failures: Sequence[Failure] = ()) -> None:
        super().__init__(message, failures=failures)
        self.excluded = tuple(excluded)


class NoCandidateAvailableError(PointsmanError):
    """Something could take this task, but not now; `wait_until` is None where no `available_at` tells it."""

    def __init__(
        self,
        message: str,
        *,
        excluded: Sequence[Excluded],
        wait_until: datetime | None,
        retry_after_seconds: int,
        failures: Sequence[Failure] = (),
    ) -> None:
        super().__init__(message, failures=failures)
        self.excluded = tuple(excluded)
        self.wait_until = wait_until
        self.retry_after_seconds = retry_after_seconds


class ClassifierFailedError(PointsmanError):
    """`strict`, and the configured classifier failed."""


class DeadlineExceededError(PointsmanError):
    """`strict`, and the time ran out: the whole, or the classifier's share of it."""


class OverloadedError(PointsmanError):
    """Too many requests in flight; the caller may try again after `retry_after_seconds`."""

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ConflictError(PointsmanError):
    """Another outcome is already recorded for that attempt."""


class NotFoundError(PointsmanError):
    """No such decision, outcome or execution."""


class LocalAgentOffError(PointsmanError):
    """An execution is asked for and no endpoint is set."""


class StoreUnavailableError(PointsmanError):
    """The database cannot take or give anything now; decisions go on without it."""
