"""The command `pointsman`: its subcommands, and how each way of ending becomes an exit code."""

import atexit
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
    "outcomes": "Bring history in (`import`) or out (`export`).",
    "store": "Take what is recorded over into another database (`copy`).",
    "run": "Run a task on the local model and stream its answer.",
}
"""Each lives in `service/commands/<name>.py` as `command`; it is imported when it is called, so that a decision does
not wait for the parts that only the server needs."""


GARBAGE_THRESHOLD = 20_000
"""New objects before the next collection, where Python's own number is 700 (3.11): imports make no garbage."""


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
    atexit.register(gc.freeze)  # the interpreter looks through everything once more at its end: a fifth of a command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no UTF-8 gets `?` and not a traceback
    try:
        code = pointsman.main(prog_name="pointsman", standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:  # the reader has gone, as with `| head`; what is left in the buffer is for nobody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
