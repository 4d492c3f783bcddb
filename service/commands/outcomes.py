"""`pointsman outcomes import` and `export`: history in and out, one JSON object a line."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from service.commands.common import (
    PROBLEM,
    config_option,
    end_with,
    json_option,
    print_json,
    run,
    running_core,
    settings_of,
)
from service.contract.decoding import decode_json
from service.contract.errors import InvalidInputError, PointsmanError
from service.contract.outcome import Outcome
from service.contract.settings import Settings

_OUTCOME = msgspec.json.Decoder(Outcome)
_ENCODER = msgspec.json.Encoder()
_BATCH = 1000


@click.group("outcomes", short_help="Bring history in (`import`) or out (`export`).")
def command() -> None:
    """History in and out, one JSON object a line, as in POST /v1/outcomes."""


@command.command("import")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@config_option
@json_option
def import_outcomes(file: str, config: str | None, *, as_json: bool) -> None:
    """Record the outcomes of FILE (`-`: stdin). What is there already is left as it is; a line that is wrong stops
    nothing, and is named.
    """
    settings = settings_of(config)
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    outcomes, wrong = _parse(body)
    try:
        counts = run(_record(settings, outcomes))
    except PointsmanError as error:
        end_with(error, as_json=as_json)
    if as_json:
        print_json({**counts, "wrong": [{"line": line, "detail": detail} for line, detail in wrong]})
    else:
        click.echo(f"{counts['new']} recorded, {counts['same']} already there, {counts['conflict']} in conflict")
        for line, detail in wrong:
            click.echo(f"{file}, line {line}: {detail}", err=True)
    if wrong or counts["conflict"]:
        raise SystemExit(PROBLEM)


@command.command("export")
@config_option
def export_outcomes(config: str | None) -> None:
    """Print every outcome that was not withdrawn, in the order in which they came."""
    try:
        run(_export(settings_of(config)))
    except PointsmanError as error:
        end_with(error, as_json=False)


def _parse(body: bytes) -> tuple[list[Outcome], list[tuple[int, str]]]:
    outcomes: list[Outcome] = []
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            outcomes.append(decode_json(line, _OUTCOME))
        except InvalidInputError as error:
            wrong.append((number, str(error)))
    return outcomes, wrong


def _batches(outcomes: list[Outcome]) -> Iterator[list[Outcome]]:
    for start in range(0, len(outcomes), _BATCH):
        yield outcomes[start : start + _BATCH]


async def _record(settings: Settings, outcomes: list[Outcome]) -> dict[str, Any]:
    counts = {"new": 0, "same": 0, "conflict": 0}
    async with running_core(settings) as core:
        for batch in _batches(outcomes):
            for recording in await core.outcomes.record(batch):
                counts[recording.state] += 1
    return counts


async def _export(settings: Settings) -> None:
    async with running_core(settings) as core:
        async for recorded in core.store.outcomes.export():
            line = {k: v for k, v in msgspec.to_builtins(recorded.outcome).items() if v not in (None, {})}
            sys.stdout.write(_ENCODER.encode(line).decode() + "\n")
