"""`pointsman serve`: the HTTP service until SIGTERM or Ctrl-C."""

import os
import signal
import socket
import sys
from contextlib import ExitStack

import click
import msgspec

from service.app import create_app, serve
from service.commands.common import Command, WrongConfigurationError, config_option, settings_of
from service.contract.settings import Settings, config_file, load_settings
from service.core import lasting_store
from service.logs.lines import configure_logging

BACKLOG = 2048


@click.command("serve", cls=Command)
@click.option("--host", help="Where to listen; else [server] host.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one; else [server] port.")
@config_option
def command(host: str | None, port: int | None, config: str | None) -> None:
    """Run the HTTP service until SIGTERM or Ctrl-C; prints the address it listens on."""
    settings = lasting_store(_listening(settings_of(config), host, port), os.environ)
    log = configure_logging(settings.server.log_level)
    app = create_app(
        settings,
        config_file=config_file(config, os.environ),
        log=log,
        reread=lambda: _listening(load_settings(config, os.environ), host, port),
    )
    with _listen(settings.server.host, settings.server.port) as listener:
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        sys.stdout.write(f"Pointsman listens on http://{shown}:{bound}\n")
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, lambda _signal, _frame: None)  # uvicorn raises it again at its end
        serve(app, listener)


def _listening(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with what the command line says of the address."""
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, **given))


def _listen(host: str, port: int) -> socket.socket:
    with ExitStack() as failing:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = failing.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no such name"
            raise WrongConfigurationError(f"cannot listen on {host}:{port}: {why or error}") from None
        failing.pop_all()
    return listener
