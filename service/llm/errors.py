"""What can go wrong between this service and a model server, in one small tree.

PointsmanError
└── LLMError                a call to the model server brought no answer; says why in words, and as a `problem`
    ├── LLMRequestError     the call cannot be made at all: no model, unusable endpoint, text that is no Unicode
    ├── LLMConnectionError  no connection, or one that broke: refused, DNS, TLS, reset
    ├── LLMStatusError      the server answered with a status other than 2xx
    ├── LLMReplyError       the server answered 2xx with something that is no answer
    └── LLMTimeoutError     the time ran out, waiting for a slot or for the server
"""

from service.contract.errors import PointsmanError

BODY_CHARS = 500
"""How much of an error body is kept: enough for the message that servers send, too little to fill a log."""


class LLMError(PointsmanError):
    """A call to the model server brought no answer.

    `problem` is a short kebab-case name for counters and `failures` (`http-429`, `connection-refused`, `no-choices`).
    `retry_after` is the number of seconds for which the server asked to be left alone, None where it did not ask.
    `str()` is fit for people: no control characters, never the API key.
    """

    def __init__(self, message: str, *, problem: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.problem = problem
        self.retry_after = retry_after


class LLMRequestError(LLMError):
    """The call cannot be made at all; nothing was sent and trying again is of no use."""

    def __init__(self, message: str, *, problem: str = "bad-call") -> None:
        super().__init__(message, problem=problem)


class LLMConnectionError(LLMError):
    """No connection, or one that broke before the answer was complete.

    `passing` is false where the same again is of no use, such as a certificate that is not trusted.
    """

    def __init__(self, message: str, *, problem: str = "connection-failed", passing: bool = True) -> None:
        super().__init__(message, problem=problem)
        self.passing = passing


class LLMStatusError(LLMError):
    """The server answered with `status`; `body` is at most 500 characters of its answer, cleaned for a terminal."""

    def __init__(self, message: str, *, status: int, body: str, retry_after: float | None = None) -> None:
        super().__init__(message, problem=f"http-{status}", retry_after=retry_after)
        self.status = status
        self.body = body


class LLMReplyError(LLMError):
    """The server answered 2xx with something that is no answer: not JSON, no choices, too large."""


class LLMTimeoutError(LLMError):
    """The time ran out; `problem` is `queue-timeout` where the call was still waiting for a slot of its own.

    `server_seconds` is how long the server was given, the wait for a slot not counted: 0 where it was not asked.
    """

    def __init__(self, message: str, *, problem: str = "timeout", server_seconds: float = 0.0) -> None:
        super().__init__(message, problem=problem)
        self.server_seconds = server_seconds


def too_large(limit: int) -> LLMReplyError:
    """The error for an answer of more than `limit` bytes."""
    return LLMReplyError(f"the answer is larger than {limit:,} bytes", problem="too-large")
