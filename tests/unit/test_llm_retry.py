"""Retry-After in all its forms, and how long is waited between tries."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.llm.errors import LLMConnectionError, LLMReplyError, LLMStatusError, LLMTimeoutError
from service.llm.limits import Limits, Timing
from service.llm.retry import LONGEST_RETRY_AFTER, is_passing, parse_retry_after, retrying

NOW = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("0", 0.0, id="zero"),
        pytest.param("120", 120.0, id="seconds"),
        pytest.param(" 7 ", 7.0, id="spaces"),
        pytest.param("1.5", 1.5, id="decimal"),
        pytest.param("86400", 86_400.0, id="a-day"),
        pytest.param("Sun, 01 Jun 2025 12:00:30 GMT", 30.0, id="date"),
        pytest.param("Sunday, 01-Jun-25 12:00:30 GMT", 30.0, id="rfc-850-date"),
        pytest.param("Sun Jun  1 12:00:30 2025", 30.0, id="asctime-date"),
        pytest.param("Sun, 01 Jun 2025 13:00:30 +0100", 30.0, id="date-with-offset"),
        pytest.param("Sun, 01 Jun 2025 11:00:00 GMT", 0.0, id="past-date"),
        pytest.param("Thu, 01 Jan 1970 00:00:00 GMT", 0.0, id="epoch"),
    ],
)
def test_retry_after_is_read_in_every_form_of_http(value: str, seconds: float) -> None:
    """A number of seconds and each form of an HTTP date give the seconds to wait; a past date gives none."""
    assert parse_retry_after(value, now=NOW.timestamp()) == seconds


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("-1", id="negative"),
        pytest.param("NaN", id="nan"),
        pytest.param("inf", id="inf"),
        pytest.param("1e3", id="exponent"),
        pytest.param("1_0", id="underscore"),
        pytest.param("٣", id="arabic-digit"),
        pytest.param("31536000", id="a-year"),
        pytest.param("9" * 400, id="400-digits"),
        pytest.param("Mon, 01 Jun 2026 12:00:00 GMT", id="date-in-a-year"),
        pytest.param("Sun, 99 Jun 2025 12:00:00 GMT", id="no-such-date"),
        pytest.param("Sun, 01 Jun 99999 12:00:00 GMT", id="no-such-year"),
        pytest.param("soon", id="word"),
        pytest.param("1, 2", id="list"),
    ],
)
def test_an_unreadable_or_absurd_retry_after_is_refused(value: str | None) -> None:
    """What is not finite, negative, unreadable or more than a day is as if it had not been sent."""
    assert parse_retry_after(value, now=NOW.timestamp()) is None


@given(st.text(max_size=60))
def test_no_header_value_breaks_the_parser(value: str) -> None:
    """Whatever a server sends gives None or a wait between zero and a day."""
    seconds = parse_retry_after(value, now=NOW.timestamp())
    assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= LONGEST_RETRY_AFTER)


@given(st.integers(min_value=0, max_value=86_400))
def test_a_date_means_the_same_as_its_distance(seconds: int) -> None:
    """A date so many seconds ahead is read as that many seconds."""
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(header, now=NOW.timestamp()) == seconds


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        pytest.param(LLMStatusError("", status=429, body=""), True, id="429"),
        pytest.param(LLMStatusError("", status=503, body=""), True, id="503"),
        pytest.param(LLMStatusError("", status=500, body=""), False, id="500"),
        pytest.param(LLMStatusError("", status=400, body=""), False, id="400"),
        pytest.param(LLMConnectionError(""), True, id="connection"),
        pytest.param(LLMConnectionError("", passing=False), False, id="certificate"),
        pytest.param(LLMReplyError("", problem="not-json"), False, id="reply"),
        pytest.param(LLMTimeoutError(""), False, id="timeout"),
        pytest.param(ValueError(), False, id="other"),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, passing: bool) -> None:
    """429, 503 and connections that fail are tried again; nothing else is."""
    assert is_passing(error) is passing


async def _waits(error: Exception, *, remaining: float = 100.0, random: float = 0.0) -> tuple[int, list[float]]:
    calls: list[int] = []
    waits: list[float] = []

    async def fail() -> None:
        calls.append(1)
        raise error

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    timing = Timing(clock=lambda: sum(waits), sleep=sleep, chance=lambda: random)
    attempts = retrying(Limits(timeout_seconds=remaining), timing, deadline=remaining)
    with pytest.raises(type(error)):
        await attempts(fail)
    return len(calls), waits


@pytest.mark.parametrize(
    ("random", "expected"),
    [pytest.param(0.0, [1.0, 2.0], id="least"), pytest.param(1.0, [1.25, 2.5], id="most")],
)
async def test_there_are_three_tries_with_waits_from_a_second_on(random: float, expected: list[float]) -> None:
    """Three tries in all; the waits between them start at one second, double, and vary by a quarter."""
    assert await _waits(LLMConnectionError(""), random=random) == (3, expected)


async def test_retry_after_wins_over_the_backoff() -> None:
    """What the server asked for is waited, and not what the backoff would be."""
    error = LLMStatusError("", status=429, body="", retry_after=0.5)
    assert await _waits(error, random=1.0) == (3, [0.5, 0.5])


@pytest.mark.parametrize("retry_after", [pytest.param(5.0, id="retry-after"), pytest.param(None, id="backoff")])
async def test_a_wait_that_would_reach_the_deadline_is_not_begun(retry_after: float | None) -> None:
    """Where no time would be left after the wait, the call fails at once."""
    error = LLMStatusError("", status=503, body="", retry_after=retry_after)
    assert await _waits(error, remaining=1.0) == (1, [])
