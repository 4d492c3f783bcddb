"""When a call to the model server is made again, and after how long a wait."""

import math
import re
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from service.llm.errors import LLMConnectionError, LLMError, LLMStatusError
from service.llm.limits import Limits, Timing

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds. A daily quota may well ask for a day; what asks for more is a mistake and is not heeded."""

RETRIED_STATUSES = frozenset({429, 503, 529})
"""529 is what some servers of decision models say instead of 503."""

_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")


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
    """True for what may be gone a moment later: 429, 503, 529, and a connection that failed."""
    if isinstance(error, LLMStatusError):
        return error.status in RETRIED_STATUSES
    return isinstance(error, LLMConnectionError) and error.passing


def retrying(
    limits: Limits, timing: Timing, *, deadline: float, passing: Callable[[BaseException], bool] = is_passing
) -> AsyncRetrying:
    """Retries for one call: never share one between calls, its state is theirs. The last error is raised as it is."""

    def seconds(state: RetryCallState) -> float:
        """What the server asked for, else a wait that doubles, and up to a quarter more: many callers that failed
        together are not to come back together."""
        told = _retry_after(state.outcome.exception() if state.outcome else None)
        if told is not None:
            return told
        return limits.first_wait_seconds * 2.0 ** (state.attempt_number - 1) * (1.0 + 0.25 * timing.chance())

    def stop(state: RetryCallState) -> bool:
        """To fail before a wait that would reach the deadline leaves the caller time for something else."""
        return state.attempt_number >= limits.max_attempts or state.upcoming_sleep >= deadline - timing.clock()

    def again(error: BaseException) -> bool:
        return passing(error) and (limits.waits_when_told or not _retry_after(error))

    return AsyncRetrying(
        sleep=timing.sleep,
        stop=stop,
        wait=seconds,
        retry=retry_if_exception(again),
        reraise=True,
    )


def _retry_after(error: BaseException | None) -> float | None:
    return error.retry_after if isinstance(error, LLMError) else None
