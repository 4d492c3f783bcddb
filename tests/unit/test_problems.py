"""The table from errors to problem documents holds to the contract, and no error is missing in it."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from service.contract import errors
from service.contract.decision import Excluded, Failure
from service.contract.problem import URN, headers_of, problem_of, problem_of_status

FAILURE = Failure(source="cli", problem="timeout", detail="too slow")
EXCLUDED = Excluded(agent_type="claude", model="opus", why="no slot")
NOON = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))

CASES: dict[str, tuple[errors.PointsmanError, str, int]] = {
    "invalid": (errors.InvalidInputError("expected `int`", path="$.a"), "invalid-request", 400),
    "not found": (errors.NotFoundError("no such thing"), "not-found", 404),
    "local agent off": (errors.LocalAgentOffError("no endpoint"), "local-agent-off", 404),
    "conflict": (errors.ConflictError("another"), "conflict", 409),
    "nothing eligible": (errors.NoEligibleCandidateError("none", excluded=[EXCLUDED]), "no-eligible-candidate", 422),
    "classifier failed": (errors.ClassifierFailedError("failed", failures=[FAILURE]), "classifier-failed", 502),
    "nothing available": (
        errors.NoCandidateAvailableError("none", excluded=[EXCLUDED], wait_until=NOON, retry_after_seconds=7),
        "no-candidate-available",
        503,
    ),
    "overloaded": (errors.OverloadedError("busy", retry_after_seconds=3), "overloaded", 503),
    "store": (errors.StoreUnavailableError("the disk is full"), "store-unavailable", 503),
    "deadline": (errors.DeadlineExceededError("late", failures=[FAILURE]), "deadline-exceeded", 504),
}


@pytest.mark.parametrize(("error", "kind", "status"), CASES.values(), ids=CASES)
def test_each_error_has_its_problem(error: errors.PointsmanError, kind: str, status: int) -> None:
    """Type, status and detail are those of the contract's table."""
    problem = problem_of(error, request_id="r")
    assert (problem.type, problem.status) == (URN + kind, status)
    assert problem.detail == str(error)
    assert problem.request_id == "r"


def test_no_error_of_the_core_is_missing() -> None:
    """A new kind of error of the core without an entry in the table would become a 500."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PointsmanError)
    ]
    tabled = tuple(type(error) for error, _, _ in CASES.values())
    assert [kind for kind in kinds if kind is not errors.PointsmanError and not issubclass(kind, tabled)] == []


def test_only_what_an_error_knows_stands_in_its_document() -> None:
    """`excluded`, `failures` and `wait_until` stand only in the problems that speak of them."""
    plain = msgspec.to_builtins(problem_of(errors.NotFoundError("x")))
    assert set(plain) == {"type", "title", "status", "detail"}
    waiting = msgspec.to_builtins(problem_of(CASES["nothing available"][0]))
    assert waiting["wait_until"] == "2030-01-01T10:00:00Z"
    assert waiting["excluded"] == ({"agent_type": "claude", "model": "opus", "effort": None, "why": "no slot"},)
    assert "failures" not in waiting
    failed = msgspec.to_builtins(problem_of(CASES["classifier failed"][0]))
    assert failed["failures"] == ({"source": "cli", "problem": "timeout", "detail": "too slow"},)


def test_wait_until_is_null_where_nobody_knows() -> None:
    """A 503 without an `available_at` has `wait_until: null`, and not no such field."""
    error = errors.NoCandidateAvailableError("none", excluded=[], wait_until=None, retry_after_seconds=7)
    assert msgspec.to_builtins(problem_of(error))["wait_until"] is None


def test_a_far_wait_until_is_written_in_utc() -> None:
    """A time at the end of the calendar is still a time."""
    far = datetime.max.replace(tzinfo=UTC)
    error = errors.NoCandidateAvailableError("none", excluded=[], wait_until=far, retry_after_seconds=7)
    assert msgspec.json.encode(problem_of(error))


def test_retry_after_stands_where_it_is_known() -> None:
    """The 503s have Retry-After in whole seconds; others have none."""
    with_header = {name for name, (error, _, _) in CASES.items() if "Retry-After" in headers_of(error)}
    assert with_header == {"nothing available", "overloaded", "store"}
    assert headers_of(CASES["overloaded"][0]) == {"Retry-After": "3"}


def test_a_defect_is_internal_and_says_nothing() -> None:
    """Any other exception is `internal`, and its own text is not in it."""
    problem = problem_of(ValueError("secret"), request_id="r")
    assert (problem.type, problem.status) == (URN + "internal", 500)
    assert "secret" not in str(msgspec.to_builtins(problem))


@pytest.mark.parametrize(
    ("status", "kind", "answered"),
    [
        (400, "invalid-request", 400),
        (401, "unauthorized", 401),
        (404, "not-found", 404),
        (405, "method-not-allowed", 405),
        (413, "too-large", 413),
        (415, "invalid-request", 400),
        (418, "invalid-request", 400),
        (500, "internal", 500),
        (503, "internal", 500),
    ],
)
def test_a_status_of_the_framework_has_a_problem(status: int, kind: str, answered: int) -> None:
    """Whatever status the framework comes up with, the answer is one of the contract's problems."""
    problem = problem_of_status(status, "detail", request_id="r")
    assert (problem.type, problem.status) == (URN + kind, answered)


def test_a_long_detail_is_cut() -> None:
    """A detail never carries a whole body back."""
    assert len(problem_of(errors.InvalidInputError("x" * 100_000)).detail) <= 1000
