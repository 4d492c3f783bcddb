"""Whoever sent a request, and whether they are still there."""

import asyncio
from typing import Self

from litestar.types import Receive

LISTEN_AFTER_SECONDS = 0.02
"""Most answers that take less are there before anybody could have gone; listening costs as much as half a decision."""


class Caller:
    """Nothing is listened for until `left` was called and a moment has passed, nor after the `with` block."""

    def __init__(self, receive: Receive) -> None:
        """`receive` is asked once the body was read to its end."""
        self._receive = receive
        self._left: asyncio.Future[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._listening: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._later is not None:
            self._later.cancel()
        if self._listening is not None:
            self._listening.cancel()

    def left(self) -> "asyncio.Future[None]":
        """Done as soon as the connection is closed; the same for all tasks of a batch."""
        if self._left is None:
            loop = asyncio.get_running_loop()
            self._left = loop.create_future()
            self._later = loop.call_later(LISTEN_AFTER_SECONDS, self._listen, self._left)
        return self._left

    def _listen(self, left: "asyncio.Future[None]") -> None:
        self._listening = asyncio.create_task(self._hear(left))

    async def _hear(self, left: "asyncio.Future[None]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        left.set_result(None)
