"""`pointsman serve`: the HTTP service under uvicorn."""

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from types import FrameType

import click
import msgspec
import uvicorn

from service.app import create_app
from service.commands.common import WrongConfigurationError, config_option, settings_of
from service.contract.errors import PointsmanError
from service.contract.settings import Settings, config_file, load_settings
from service.core import Core
from service.logs.lines import configure_logging

if sys.platform != "win32":
    from service.commands.protocol import BoundedProtocol

KEEP_ALIVE_SECONDS = 65
"""Above the 60 s for which load balancers usually keep idle connections, so that they close them and not we."""

BACKLOG = 2048

HURRY_SECONDS = 1.0
"""Before the end of the time for a shutdown: 256 answers, the most that wait for a classifier, take half of it."""

GARBAGE_THRESHOLDS = (1_000, 5, 20)
"""Often and little: 20,000 objects at a time, a command's choice, took 10 to 20 ms of every request under way."""


@click.command("serve", short_help="Run the HTTP service.")
@click.option("--host", help="Where to listen; else [server] host.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one; else [server] port.")
@config_option
def command(host: str | None, port: int | None, config: str | None) -> None:
    """Run the HTTP service until SIGTERM or Ctrl-C; prints the address it listens on."""
    settings = settings_of(config)
    settings = _listening(settings, host, port)
    server = settings.server
    log = configure_logging(server.log_level)
    try:
        app = create_app(
            settings,
            config_file=config_file(config, os.environ),
            log=log,
            reread=lambda: _listening(load_settings(config, os.environ), host, port),
        )
    except PointsmanError as error:
        raise WrongConfigurationError(str(error)) from None
    listener = _listen(server.host, server.port)
    address, bound = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    sys.stdout.write(f"Pointsman listens on http://{shown}:{bound}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, _nothing)  # uvicorn ends gracefully, then raises the signal again: exit 0
    _Server(
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
            timeout_graceful_shutdown=int(server.shutdown_seconds),
        ),
        core=app.state.core,
        drain_seconds=server.drain_seconds,
        hurry_after_seconds=int(server.shutdown_seconds) - min(HURRY_SECONDS, int(server.shutdown_seconds) / 2),
    ).run(sockets=[listener])


def _listening(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with what the command line says of the address."""
    server = settings.server
    server = msgspec.structs.replace(
        server, host=server.host if host is None else host, port=server.port if port is None else port
    )
    return msgspec.structs.replace(settings, server=server)


def settle_garbage() -> None:
    """Sets aside what was made so far: garbage collection would else go through it, 60 to 90 ms each time.

    From here on it comes often and is short; a command's rare one would hold every request up for 30 ms and more.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # Python waits with a full one until a quarter is new: of what is there now, not of what there was
    gc.set_threshold(*GARBAGE_THRESHOLDS)


class _Server(uvicorn.Server):
    """Goes on serving for a while after SIGTERM, so that no load balancer sends to a closed door."""

    def __init__(self, config: uvicorn.Config, *, core: Core, drain_seconds: float, hurry_after_seconds: float) -> None:
        super().__init__(config)
        self._core = core
        self._drain_seconds = drain_seconds
        self._hurry_after_seconds = hurry_after_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests come from now on."""
        await super().startup(sockets)
        settle_garbage()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C and a second SIGTERM do not wait."""
        if sig == signal.SIGTERM and self._drain_seconds and not self._core.leaving:
            self._core.leave()
            timer = threading.Timer(self._drain_seconds, super().handle_exit, (sig, frame))
            timer.daemon = True
            timer.start()
            return
        self._core.leave()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Executions end first: whoever follows one would else hold the rest up for as long as that may take.

        Who still waits for a classifier when the time is nearly over is answered by the forecast: uvicorn would cut
        the request off with a 500.
        """
        if self._core.executions is not None:
            await self._core.executions.aclose()
        hurrying = asyncio.create_task(self._hurry())
        await super().shutdown(sockets)
        hurrying.cancel()

    async def _hurry(self) -> None:
        await asyncio.sleep(self._hurry_after_seconds)
        await self._core.pipeline.hurry()


def _nothing(_signal: int, _frame: FrameType | None) -> None:
    """All that was to be done is done."""


def _listen(host: str, port: int) -> socket.socket:
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no such name"
            raise WrongConfigurationError(f"cannot listen on {host}:{port}: {why or error}") from None
        stack.pop_all()
    return listener
