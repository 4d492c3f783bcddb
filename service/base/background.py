"""One piece of work done again and again beside the requests, every so many seconds or as soon as it is woken."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Background:
    """Calls `work` once a round until it is closed; what one round raises is handed to `defect` and ends no other."""

    def __init__(
        self,
        work: Callable[[], Awaitable[None]],
        *,
        every_seconds: float | None,
        defect: Callable[[Exception], None],
    ) -> None:
        """`every_seconds` is the rest between two rounds that nobody wakes; None rests until it is woken."""
        self._work = work
        self._every_seconds = every_seconds
        self._defect = defect
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._task is not None

    def start(self) -> None:
        """Begins with a rest: whoever wants a first round at once calls `wake`."""
        self._task = asyncio.create_task(self._go_on())

    def wake(self) -> None:
        """The next round begins now, or right after the one under way. Also before `start`."""
        self._woken.set()

    async def aclose(self) -> None:
        """Cancels the round under way and waits for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _go_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_seconds):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - one round that fails must not end all that would follow
                self._defect(error)
