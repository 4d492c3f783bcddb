"""How long a decision took, and each of its stages."""

from collections.abc import Callable


class Stopwatch:
    """Times the stages; `started` is when the request arrived."""

    def __init__(self, clock: Callable[[], float], arrived: float | None = None) -> None:
        """`arrived` is on `clock`, in seconds; now where None."""
        self._clock = clock
        self._last = clock()
        self.started = self._last if arrived is None else arrived
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """`stage` has taken the time since the last one."""
        now = self._clock()
        self.seconds[stage] = now - self._last
        self._last = now

    def skip(self) -> None:
        """The time since the last stage belongs to none, or is known already."""
        self._last = self._clock()

    def milliseconds(self) -> dict[str, float]:
        """The total up to now, and each stage."""
        found = {"total": round((self._clock() - self.started) * 1000, 3)}
        for stage, seconds in self.seconds.items():
            found[stage] = round(seconds * 1000, 3)
        return found
