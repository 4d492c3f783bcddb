"""When a call to the model server is made again, and after how long a wait."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.stop import stop_after_attempt, stop_base
from tenacity.wait import wait_base

from service.llm.errors import LLMConnectionError, LLMError, LLMStatusError

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds. A daily quota may well ask for a day; what asks for more is a mistake and is not heeded."""

RETRIED_STATUSES = frozenset({429, 503})

_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")

Sleep = Callable[[float], Awaitable[None]]


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` header (RFC 9110, 10.2.3); `now` is Unix time in seconds.

    A number of seconds, whole or decimal, or a date in any of the three forms of HTTP; a date in the past is 0.
    None for anything else: negative, not finite, unreadable, or more than a day.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        try:
            when = parsedate_to_datetime(text)
            seconds = max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds <= LONGEST_RETRY_AFTER else None


def is_passing(error: BaseException) -> bool:
    """True for what may be gone a moment later: 429, 503, and a connection that failed."""
    if isinstance(error, LLMStatusError):
        return error.status in RETRIED_STATUSES
    return isinstance(error, LLMConnectionError) and error.passing


class RetryAfterOrBackoff(wait_base):
    """What the server asked for, else `first` seconds doubled with each try, and up to a quarter more at random.

    The random part keeps many callers that failed together from coming back together.
    """

    def __init__(self, first: float, random: Callable[[], float]) -> None:
        self._first = first
        self._random = random

    def __call__(self, retry_state: RetryCallState) -> float:
        """Seconds to wait before the next try."""
        error = _error_of(retry_state)
        if error is not None and error.retry_after is not None:
            return error.retry_after
        return self._first * 2.0 ** (retry_state.attempt_number - 1) * (1.0 + 0.25 * self._random())


class StopWhenTooLate(stop_base):
    """Stops where the wait would reach the deadline: to fail now leaves the caller time for something else."""

    def __init__(self, remaining: Callable[[], float]) -> None:
        self._remaining = remaining

    def __call__(self, retry_state: RetryCallState) -> bool:
        """True where no time would be left after the wait."""
        return retry_state.upcoming_sleep >= self._remaining()


def retrying(
    *,
    remaining: Callable[[], float],
    max_attempts: int,
    first_wait: float,
    random: Callable[[], float],
    sleep: Sleep = asyncio.sleep,
    passing: Callable[[BaseException], bool] = is_passing,
) -> AsyncRetrying:
    """Retries for one call: never share one between calls, its state is theirs. The last error is raised as it is."""
    return AsyncRetrying(
        sleep=sleep,
        stop=stop_after_attempt(max_attempts) | StopWhenTooLate(remaining),
        wait=RetryAfterOrBackoff(first_wait, random),
        retry=retry_if_exception(passing),
        reraise=True,
    )


def _error_of(state: RetryCallState) -> LLMError | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, LLMError) else None
