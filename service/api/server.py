"""uvicorn as Pointsman runs it: what comes in is bounded, and what is under way is answered before it ends."""

import asyncio
import gc
import signal
import socket
import sys
import threading
from types import FrameType

import uvicorn
from litestar import Litestar

from service.core import Core

if sys.platform != "win32":
    from service.api.protocol import BoundedProtocol

KEEP_ALIVE_SECONDS = 65
"""Above the 60 s for which load balancers usually keep idle connections, so that they close them and not we."""

HURRY_SECONDS = 1.0
"""So long before a shutdown's time is over, those who still wait for a classifier are answered without it. There are at
most 256 of them, whose answers take half of it."""

GARBAGE_THRESHOLDS = (1_000, 5, 20)
"""Often and little: 20,000 objects at a time, a command's choice, took 10 to 20 ms of every request under way."""


class Server(uvicorn.Server):
    """Goes on serving for a while after SIGTERM, so that no load balancer sends to a closed door."""

    def __init__(self, app: Litestar, core: Core) -> None:
        settings = core.settings.server
        shutdown_seconds = int(settings.shutdown_seconds)
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop" if sys.platform != "win32" else "asyncio",
                http=BoundedProtocol if sys.platform != "win32" else "h11",
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,  # nothing here asks who the client is
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=shutdown_seconds,
            )
        )
        self._core = core
        self._drain_seconds = settings.drain_seconds
        self._hasty = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hurry_after_seconds = shutdown_seconds - min(HURRY_SECONDS, shutdown_seconds / 2)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        settle_garbage()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C and a second SIGTERM do not wait, neither for load balancers nor for executions."""
        if sig == signal.SIGTERM and self._drain_seconds and not self._core.leaving:
            self._core.leave()
            timer = threading.Timer(self._drain_seconds, super().handle_exit, (sig, frame))
            timer.daemon = True
            timer.start()
            return
        again = self.should_exit
        self._hasty = self._hasty or again or sig == signal.SIGINT
        self._core.leave()
        super().handle_exit(sig, frame)
        if again and self._loop is not None and self._core.executions is not None:
            self._loop.call_soon_threadsafe(self._core.executions.hurry)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Executions that run get nearly all of the time, and those who follow one see how it ends.

        Who still waits for a classifier when the time is nearly over is answered by the forecast: uvicorn would cut
        the request off with a 500.
        """
        pending = [asyncio.create_task(self._hurry())]
        if self._core.executions is not None:
            grace = 0.0 if self._hasty else self._hurry_after_seconds
            # The end of the application, which `shutdown` waits for, waits for this.
            pending.append(asyncio.create_task(self._core.executions.aclose(grace_seconds=grace)))
        await super().shutdown(sockets)
        for task in pending:
            task.cancel()

    async def _hurry(self) -> None:
        await asyncio.sleep(self._hurry_after_seconds)
        await self._core.pipeline.classifiers.hurry()


def settle_garbage() -> None:
    """Sets aside what was made so far: garbage collection would else go through it, 60 to 90 ms each time.

    From here on it comes often and is short; a command's rare one would hold every request up for 30 ms and more.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # Python waits with a full one until a quarter is new: of what is there now, not of what there was
    gc.set_threshold(*GARBAGE_THRESHOLDS)
