"""How long one classifier takes, learned from its answers: who has less time than that does not ask it."""

from collections import deque
from statistics import median

ANSWERS = 32
"""Answers remembered: a server that has become slower is known for it after so many."""

FIRST_PROBE_SECONDS, LONGEST_PROBE_SECONDS = 1.0, 60.0
"""Time between probes, doubled by each in vain. The first comes soon: the first answer of a server may have taken as
long as loading its model."""

PATIENCE = 3.0
"""A time-out after so many times what an answer usually takes is no haste any more."""


class Pace:
    """Times are seconds, `now` is on a monotonic clock."""

    def __init__(self) -> None:
        self._answers: deque[float] = deque(maxlen=ANSWERS)
        self._probed = 0.0
        self._rests = FIRST_PROBE_SECONDS

    @property
    def quickest(self) -> float | None:
        """The least that one of the last answers took; None before the first."""
        return min(self._answers, default=None)

    def patience(self, least: float) -> float:
        """From how much time on a time-out is not the caller's haste: `least`, or more where answers take long."""
        return max(least, PATIENCE * median(self._answers)) if self._answers else least

    def allows(self, seconds: float, now: float) -> bool:
        """Whether so much time may be enough, or a probe is due: the sooner, the less is missing."""
        quickest = self.quickest
        if quickest is None or seconds >= quickest:
            return seconds > 0
        return seconds > 0 and (now - self._probed) * seconds >= self._rests * quickest

    def asked(self, seconds: float, now: float) -> None:
        """Somebody with so much time is asking now."""
        quickest = self.quickest
        if quickest is not None and seconds < quickest:
            self._probed, self._rests = now, min(2 * self._rests, LONGEST_PROBE_SECONDS)

    def answered(self, took: float, now: float) -> None:
        """An answer came."""
        quickest = self.quickest
        if quickest is None or took < quickest:
            self._probed, self._rests = now, FIRST_PROBE_SECONDS
        self._answers.append(took)
