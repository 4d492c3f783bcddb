"""`pointsman outcomes import` and `export`: history in and out, one JSON object a line."""

import asyncio
import os
import sys
from collections.abc import Sequence

import click
import msgspec

from service.commands.common import PROBLEM, Command, config_option, json_option, running_core, settings_of
from service.commands.instructions import read_input
from service.contract.decoding import decode_lines
from service.contract.errors import InvalidInputError
from service.contract.outcome import Outcome
from service.contract.settings import Settings
from service.core import Core, lasting_store
from service.logs.output import print_json

_OUTCOME = msgspec.json.Decoder(Outcome)
_ENCODER = msgspec.json.Encoder()
_BATCH = 1000


@click.group("outcomes")
def command() -> None:
    """History in and out, one JSON object a line, as in POST /v1/outcomes."""


@command.command("import", cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@config_option
@json_option
def import_outcomes(file: str, config: str | None, *, as_json: bool) -> None:
    """Record the outcomes of FILE (`-`: stdin). What is there already is left as it is; a line that is wrong stops
    nothing, and is named.
    """
    settings = lasting_store(settings_of(config), os.environ)
    outcomes: list[Outcome] = []
    wrong: list[tuple[int, str]] = []
    for line, outcome in decode_lines(read_input(file), _OUTCOME):
        if isinstance(outcome, InvalidInputError):
            wrong.append((line, str(outcome)))
        else:
            outcomes.append(outcome)
    counts = asyncio.run(_import(settings, outcomes))
    if as_json:
        print_json({**counts, "wrong": [{"line": line, "detail": detail} for line, detail in wrong]})
    else:
        click.echo(f"{counts['new']} recorded, {counts['same']} already there, {counts['conflict']} in conflict")
        for line, detail in wrong:
            click.echo(f"{file}, line {line}: {detail}", err=True)
    if wrong or counts["conflict"]:
        raise SystemExit(PROBLEM)


@command.command("export", cls=Command)
@config_option
def export_outcomes(config: str | None) -> None:
    """Print every outcome that was not withdrawn, in the order in which they came."""
    asyncio.run(_export(lasting_store(settings_of(config), os.environ)))


async def record(core: Core, outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Records any number of outcomes; how many were new, the same as one there, or in conflict with one."""
    counts = {"new": 0, "same": 0, "conflict": 0}
    for start in range(0, len(outcomes), _BATCH):
        for recording in await core.outcomes.record(outcomes[start : start + _BATCH]):
            counts[recording.state] += 1
    return counts


async def _import(settings: Settings, outcomes: list[Outcome]) -> dict[str, int]:
    async with running_core(settings) as core:
        return await record(core, outcomes)


async def _export(settings: Settings) -> None:
    async with running_core(settings) as core:
        async for recorded in core.store.outcomes.export():
            line = {k: v for k, v in msgspec.to_builtins(recorded.outcome).items() if v not in (None, {})}
            sys.stdout.write(_ENCODER.encode(line).decode() + "\n")
