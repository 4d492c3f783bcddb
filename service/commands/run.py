"""`pointsman run`: a task on the local model, its answer streamed to the terminal."""

import asyncio
import os
import sys
import time

import click

from service.base.ids import uuid7
from service.base.text import visible
from service.commands.common import PROBLEM, Command, config_option, json_option, running_core, settings_of
from service.commands.instructions import read_instructions
from service.contract.errors import LocalAgentOffError
from service.contract.execution import ExecutionRequest
from service.contract.settings import Settings
from service.executions.local_runner import RunResult
from service.logs.output import say

WAIT_SECONDS = 1.0
"""Without text for so long, the terminal says that the model is waited for."""


@click.command("run", cls=Command)
@click.argument("text", required=False)
@click.option("--file", "file", type=click.Path(dir_okay=False), help="Read the instructions from a file.")
@click.option("--name", default="", help="The task's title.")
@click.option("--model", help="The model; else local_model.model.")
@click.option("--max-tokens", type=click.IntRange(min=1))
@click.option("--temperature", type=click.FloatRange(0, 2))
@config_option
@json_option
def command(
    text: str | None,
    file: str | None,
    name: str,
    model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    config: str | None,
    *,
    as_json: bool,
) -> None:
    """Run a task on the local model; the answer goes to stdout as it comes, figures to stderr at the end.

    With --json the stream-json lines are printed instead. Ctrl-C ends the run on the server too.
    """
    settings = settings_of(config)
    instructions = read_instructions(text, file)
    if not instructions:
        raise click.UsageError("Say what is to be done: TEXT, `-` for stdin, or --file.")
    request = ExecutionRequest(
        name=name,
        instructions=instructions,
        model=model,
        max_tokens=max_tokens,
        temperature=temperature,
    )
    result = asyncio.run(_run(settings, request, as_json=as_json))
    if not result.succeeded:
        say(f"{result.exit_reason}: {result.detail}", err=True)
        raise SystemExit(PROBLEM)


async def _run(settings: Settings, request: ExecutionRequest, *, as_json: bool) -> RunResult:
    async with running_core(settings, learned=False) as core:
        await core.local_endpoint.start(wait=True, to_run=True)
        runner = core.make_runner()
        if runner is None:
            raise LocalAgentOffError(core.local_endpoint.no_agent)
        screen = _Screen(as_json=as_json)
        waiting = asyncio.create_task(screen.wait())
        try:
            on_line = screen.line if as_json else None
            result = await runner.run(uuid7(), request, None, on_text=screen.text, on_line=on_line)
        finally:
            waiting.cancel()
            screen.end()
    if not as_json:
        say(_figures(result), err=True)
    return result


def _figures(result: RunResult) -> str:
    if result.tokens_out is None:
        tokens = "tokens not reported by the server"
    else:
        rate = result.tokens_out / result.seconds if result.seconds else 0.0
        tokens = f"{result.tokens_in} tokens in, {result.tokens_out} out, {rate:.1f} tokens/s"
    return f"{result.model}: {tokens}, {result.seconds:.1f} s"


class _Screen:
    """The answer to stdout as it comes; while none comes, a few characters on stderr say so, where that is a terminal.

    Those stand after whatever was printed last and are wiped away before more is.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._began = self._printed = time.monotonic()
        self._shown = False
        self._last = "\n"
        self._status = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def line(self, lines: bytes) -> None:
        """Lines of stream-json, which hold nothing that a terminal would obey."""
        self._clear()
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()

    def text(self, text: str) -> None:
        """A piece of the answer, without what a terminal would obey."""
        if self._as_json:
            return
        self._clear()
        shown = visible(text)
        sys.stdout.write(shown)
        sys.stdout.flush()
        self._last = shown[-1:] or self._last

    async def wait(self) -> None:
        """Shows that something is happening, until it is cancelled."""
        while self._status:
            await asyncio.sleep(WAIT_SECONDS / 4)
            if time.monotonic() - self._printed >= WAIT_SECONDS:
                self._shown = True
                # The cursor is put back, so that what comes next goes on where the text ended.
                sys.stderr.write(f"\x1b7 waiting, {time.monotonic() - self._began:.0f} s\x1b8")
                sys.stderr.flush()

    def end(self) -> None:
        """The answer ends in a newline, whatever the model did."""
        self._clear()
        if self._last != "\n":
            sys.stdout.write("\n")
            sys.stdout.flush()

    def _clear(self) -> None:
        self._printed = time.monotonic()
        if self._shown:
            self._shown = False
            sys.stderr.write("\x1b[K")
            sys.stderr.flush()
