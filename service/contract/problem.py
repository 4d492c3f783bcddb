"""Problem documents (RFC 9457) and the one table from errors to them, for HTTP and the command line alike."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from service.contract import errors
from service.contract.decision import Excluded, Failure

MEDIA_TYPE = "application/problem+json"
URN = "urn:pointsman:"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document. `excluded`, `failures` and `wait_until` stand only in those that speak of them."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    excluded: tuple[Excluded, ...] | msgspec.UnsetType = msgspec.UNSET
    failures: tuple[Failure, ...] | msgspec.UnsetType = msgspec.UNSET
    wait_until: datetime | msgspec.UnsetType | None = msgspec.UNSET


_TABLE: Mapping[type[Exception], tuple[str, int, str]] = {
    errors.InvalidInputError: ("invalid-request", 400, "The request has the wrong shape"),
    errors.WrongFileError: ("invalid-request", 400, "The file has the wrong content"),
    errors.NoEligibleCandidateError: ("no-eligible-candidate", 422, "Nothing in the catalog can take this task"),
    errors.NoCandidateAvailableError: ("no-candidate-available", 503, "Nothing is available for this task now"),
    errors.ClassifierFailedError: ("classifier-failed", 502, "The configured classifier failed"),
    errors.DeadlineExceededError: ("deadline-exceeded", 504, "The time ran out"),
    errors.OverloadedError: ("overloaded", 503, "Too many requests in flight"),
    errors.ConflictError: ("conflict", 409, "Another outcome is already recorded for that attempt"),
    errors.NotFoundError: ("not-found", 404, "No such thing"),
    errors.LocalAgentOffError: ("local-agent-off", 404, "No local model is configured"),
    errors.StoreUnavailableError: ("store-unavailable", 503, "The database cannot take or give anything now"),
}
_BY_STATUS: Mapping[int, tuple[str, str]] = {
    400: ("invalid-request", "The request has the wrong shape"),
    401: ("unauthorized", "A bearer token is needed"),
    404: ("not-found", "No such thing"),
    405: ("method-not-allowed", "Not by this method"),
    413: ("too-large", "The body is too large"),
}
_INTERNAL = ("internal", 500, "A defect of the service")

TYPES: Mapping[str, int] = {
    **{kind: status for kind, status, _ in _TABLE.values()},
    **{kind: status for status, (kind, _) in _BY_STATUS.items()},
    _INTERNAL[0]: _INTERNAL[1],
}
"""Every problem type and its status."""

STORE_RETRY_SECONDS = 5


def problem_of(error: BaseException, *, request_id: str | None = None) -> Problem:
    """The document for an error of the core; `internal`, without its text, for any other."""
    for kind in type(error).__mro__:
        if kind in _TABLE:
            name, status, title = _TABLE[kind]
            return Problem(
                type=URN + name,
                title=title,
                status=status,
                detail=str(error)[:1000],
                request_id=request_id,
                excluded=getattr(error, "excluded", msgspec.UNSET),
                failures=getattr(error, "failures", ()) or msgspec.UNSET,
                wait_until=_wait_until(error),
            )
    name, status, title = _INTERNAL
    detail = "The log has the cause under this request id." if request_id else "The log has the cause."
    return Problem(type=URN + name, title=title, status=status, detail=detail, request_id=request_id)


def problem_of_status(status: int, detail: str, *, request_id: str | None = None) -> Problem:
    """The document for a plain HTTP status, such as the router's 404."""
    if status not in _BY_STATUS:
        status = 400 if 400 <= status < 500 else 500
    if status == 500:
        return problem_of(RuntimeError(), request_id=request_id)
    name, title = _BY_STATUS[status]
    return Problem(type=URN + name, title=title, status=status, detail=detail, request_id=request_id)


def headers_of(error: BaseException) -> dict[str, str]:
    """What goes with a problem: Retry-After where the error knows it, in whole seconds."""
    if isinstance(error, errors.StoreUnavailableError):
        return {"Retry-After": str(STORE_RETRY_SECONDS)}
    seconds: Any = getattr(error, "retry_after_seconds", None)
    return {} if seconds is None else {"Retry-After": str(int(seconds))}


def _wait_until(error: BaseException) -> datetime | msgspec.UnsetType | None:
    if not isinstance(error, errors.NoCandidateAvailableError):
        return msgspec.UNSET
    return error.wait_until.astimezone(UTC) if error.wait_until else None
