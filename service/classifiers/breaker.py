"""A circuit breaker: after failures in a row a classifier rests, then one probe decides whether it may go on."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from service.classifiers.classifier import Blame

BreakerState = Literal["closed", "open", "half-open"]

FAILURES = 3
"""Consecutive failures of its own that open it; three have already cost three time-outs."""
USELESS_REPLIES = 12
"""Consecutive useless replies that open it; high, because a batch of hostile tasks must not be able to."""
RESTS_SECONDS = (2.0, 5.0, 15.0, 30.0)
"""How long it rests, at first and after each probe that failed; the contract's limit is 30 s."""
PROBE_SECONDS = 60.0
"""A probe of which nothing was heard for so long is lost, and another one may go."""

HASTY_TIME_OUTS = 5
"""Consecutive time-outs of callers in haste that open it for them."""
PATIENT = 2.0
"""Who has so many times as much as they had is not one of them."""

_LIMITS = {Blame.CLASSIFIER: FAILURES, Blame.REPLY: USELESS_REPLIES, Blame.HASTE: HASTY_TIME_OUTS}


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Permission for one call; it must be ended by `succeeded`, `failed` or `abandoned`, each once."""

    began: float


class Breaker:
    """Opened by callers in haste it still lets those through who have more time: their calls count as if it were
    closed, and an answer closes it for all.

    Not thread-safe: it belongs to one event loop. Times are seconds of `clock`, a monotonic one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts = dict.fromkeys(_LIMITS, 0)
        self._hasty_seconds = self._longest_haste = 0.0
        self._rests = 0
        self._open_until: float | None = None
        self._opened_by = Blame.CLASSIFIER
        self._probe: Call | None = None
        self.why = ""
        """What opened it; empty while it is closed."""

    @property
    def state(self) -> BreakerState:
        """`half-open` once the rest is over: the next call is a probe, or one is under way."""
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half-open"

    @property
    def down(self) -> bool:
        """Whether it is open because the classifier did not serve, and not because of what it answered."""
        return self._open_until is not None and self._opened_by is Blame.CLASSIFIER

    @property
    def admits(self) -> bool:
        return self.state == "closed" or (self.state == "half-open" and not self._probing())

    def admits_for(self, seconds: float) -> bool:
        """Whether a call that has so much time may go."""
        return self.admits or (self._open_by_haste and seconds >= PATIENT * self._hasty_seconds)

    def rests_for(self) -> float:
        """Seconds until the next probe may go; 0 where one may go now."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())

    def wake(self) -> None:
        """Ends the rest, however long it was to be: the next call is a probe."""
        if self._open_until is not None:
            self._open_until = min(self._open_until, self._clock())

    def enter(self, seconds: float = math.inf) -> Call | None:
        """Permission for a call that has so much time, or None while it rests or another probe is under way."""
        if not self.admits_for(seconds):
            return None
        call = Call(self._clock())
        if self._open_until is not None and self.admits:
            self._probe = call
        return call

    def succeeded(self, call: Call) -> None:
        """A verdict came: it closes. A call that began before it opened, or a probe given up, does not close it, but
        where it is callers in haste who opened it."""
        if self._open_until is None or call is self._probe or self._open_by_haste:
            self._close()

    def failed(
        self,
        call: Call,
        blame: Blame,
        *,
        retry_after: float | None = None,
        given_seconds: float = 0.0,
        why: str = "",
    ) -> None:
        """No verdict came. A `retry_after` above 0 (seconds) opens it at once and holds it exactly that long.
        `given_seconds` is what a caller in haste left it, a wait in a queue of our own aside."""
        probe = call is self._probe
        if probe:
            self._probe = None
        if retry_after is not None and retry_after > 0:
            self._open(retry_after, Blame.CLASSIFIER, why)
            return
        if blame is Blame.REQUEST or not (self._open_until is None or probe or self._passed_by(blame, given_seconds)):
            return
        if blame is Blame.HASTE:
            self._longest_haste = max(self._longest_haste, given_seconds)
        if probe and blame in {Blame.CLASSIFIER, self._opened_by}:
            self._rest(blame, why)
        else:
            self._count(blame, why)

    def abandoned(self, call: Call) -> None:
        """The caller went away before anything was known."""
        if call is self._probe:
            self._probe = None

    def _count(self, blame: Blame, why: str) -> None:
        if blame is Blame.REPLY:  # whatever answers is not down, be it a probe or not
            replies = self._counts[Blame.REPLY]
            self._close()
            self._counts[Blame.REPLY] = replies
        self._counts[blame] += 1
        if self._counts[blame] >= _LIMITS[blame]:
            self._rest(blame, why)

    def _close(self) -> None:
        self._counts = dict.fromkeys(self._counts, 0)
        self._hasty_seconds = self._longest_haste = 0.0
        self._rests, self._open_until, self._probe, self.why = 0, None, None, ""

    def _rest(self, blame: Blame, why: str) -> None:
        seconds = RESTS_SECONDS[min(self._rests, len(RESTS_SECONDS) - 1)]
        self._rests += 1
        if blame is Blame.HASTE:
            self._hasty_seconds = max(self._hasty_seconds, self._longest_haste)
        self._counts[Blame.HASTE], self._longest_haste = 0, 0.0
        self._open(seconds, blame, why)

    def _open(self, seconds: float, blame: Blame, why: str) -> None:
        """Never shortens a rest: of answers that cross on their way, the one that asks for most is heeded."""
        self._open_until = max(self._open_until or 0.0, self._clock() + seconds)
        self._opened_by, self.why = blame, why

    @property
    def _open_by_haste(self) -> bool:
        return self._open_until is not None and self._opened_by is Blame.HASTE

    def _passed_by(self, blame: Blame, given_seconds: float) -> bool:
        """Whether a failure counts though it is open: callers in haste opened it, and this is not one of them."""
        return self._open_by_haste and (blame is not Blame.HASTE or given_seconds >= PATIENT * self._hasty_seconds)

    def _probing(self) -> bool:
        return self._probe is not None and self._clock() - self._probe.began < PROBE_SECONDS
