"""The command `pointsman`: its subcommands, and how each way of ending becomes an exit code."""

import atexit
import contextlib
import errno
import gc
import importlib
import io
import os
import signal
import sys

import click

from service import __version__

COMMANDS = {
    "classify": "Decide which agent and model should handle a task.",
    "serve": "Run the HTTP service.",
    "check": "Try each classifier for real and say what will answer.",
    "catalog": "Show the candidates with their forecast numbers.",
    "evaluate": "Measure how good decisions are on recorded tasks.",
    "report": "Show what was decided and what came of it.",
    "replay": "Decide the logged requests anew, with another catalog.",
    "outcomes": "Bring history in (`import`) or out (`export`).",
    "store": "Take what is recorded over into another database (`copy`).",
    "run": "Run a task on the local model and stream its answer.",
}
"""Each lives in `service/commands/<name>.py` as `command`; it is imported when it is called, so that a decision does
not wait for the parts that only the server needs."""


GARBAGE_THRESHOLD = 20_000
"""New objects before the next collection, where Python's own number is 700 (3.11): imports make no garbage."""


_NOWHERE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
"""How writing to a stream fails that is closed or full, or whose reader has gone."""


class _Late(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"service.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists them without importing one."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Late, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="pointsman")
def pointsman() -> None:
    """Decide which coding agent and which model should handle a task, and what to try next if it fails.

    Exit codes: 0 done; 1 the answer is a problem; 2 wrong usage or configuration; 130 interrupted.
    """


def main() -> None:
    """Runs the command line and exits."""
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)
    if hasattr(signal, "SIGCHLD"):
        # Inherited as ignored, it would make the kernel throw away how a classifying program ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.argv[1:2] == ["serve"] and hasattr(signal, "pthread_sigmask"):
        # Half a second before anybody listens to it, it would end the service; so it waits until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    atexit.register(gc.freeze)  # the interpreter looks through everything once more at its end: a fifth of a command
    _fill_gaps()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no UTF-8 gets `?` and not a traceback
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")  # noqa: TRY301 - told like what comes to light later
        code = pointsman.main(prog_name="pointsman", standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except OSError as error:
        if error.errno not in _NOWHERE or error.filename is not None:
            raise
        code = _nowhere(error)
    sys.exit(code if isinstance(code, int) else 0)


def _fill_gaps() -> None:
    """Whoever started this may have closed standard streams, and the next file that is opened would take the place of
    one: a database in place of stderr gets its log lines written into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end


def _nowhere(error: OSError) -> int:
    """The result cannot be written; what is left in the buffer is for nobody."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno != errno.EPIPE:  # as with `| head`, whose end is no mishap
        with contextlib.suppress(OSError):
            click.echo(f"stdout cannot be written: {error.strerror}", err=True)
    return 1
