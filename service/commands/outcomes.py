"""`pointsman outcomes import` and `export`: history in and out, one JSON object a line."""

import asyncio
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence

import click
import msgspec

from service.base.text import one_line
from service.commands.common import PROBLEM, Command, config_option, json_option, running_core, settings_of
from service.commands.instructions import read_input
from service.contract.decoding import decode_lines
from service.contract.errors import InvalidInputError
from service.contract.outcome import Outcome
from service.contract.settings import Settings
from service.core import Core, lasting_store
from service.logs.output import print_json
from service.store.outcomes import Recording

_OUTCOME = msgspec.json.Decoder(Outcome)
_ENCODER = msgspec.json.Encoder()
_SORTED = msgspec.json.Encoder(order="sorted")
_BATCH = 1000
_SHOWN, _SHOWN_PAIRS = 100, 10


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
    lines: list[int] = []
    wrong: list[tuple[int, str]] = []
    for line, outcome in decode_lines(read_input(file), _OUTCOME):
        if isinstance(outcome, InvalidInputError):
            wrong.append((line, str(outcome)))
        else:
            outcomes.append(outcome)
            lines.append(line)
    answers = asyncio.run(_import(settings, outcomes))
    wrong += [
        (line, str(answer))
        for line, answer in zip(lines, answers, strict=True)
        if isinstance(answer, InvalidInputError)
    ]
    unknown = Counter(
        one_line(f"{outcome.agent_type}/{outcome.model}", _SHOWN)
        for outcome, answer in zip(outcomes, answers, strict=True)
        if isinstance(answer, Recording) and not answer.learned
    )
    counts = {"new": 0, "same": 0, "conflict": 0}
    for answer in answers:
        if isinstance(answer, Recording):
            counts[answer.state] += 1
    if as_json:
        print_json({**counts, "wrong": [{"line": line, "detail": detail} for line, detail in sorted(wrong)]})
    else:
        click.echo(f"{counts['new']} recorded, {counts['same']} already there, {counts['conflict']} in conflict")
        if unknown:
            named = ", ".join(f"{count} of {pair}" for pair, count in unknown.most_common(_SHOWN_PAIRS))
            more = f" and {len(unknown) - _SHOWN_PAIRS} other pairs" if len(unknown) > _SHOWN_PAIRS else ""
            click.echo(
                f"{unknown.total()} teach nothing, the catalog does not have their pairs: {named}{more}", err=True
            )
        for line, detail in sorted(wrong):
            click.echo(f"{file}, line {line}: {detail}", err=True)
    if wrong or counts["conflict"]:
        raise SystemExit(PROBLEM)


@command.command("export", cls=Command)
@config_option
def export_outcomes(config: str | None) -> None:
    """Print every outcome that was not withdrawn, in the order in which they came."""
    asyncio.run(_export(lasting_store(settings_of(config), os.environ)))


async def record(
    core: Core, outcomes: Sequence[Outcome], origins: Sequence[str | None] = ()
) -> list[Recording | InvalidInputError]:
    """Records any number of outcomes; one answer for each, in order."""
    answers: list[Recording | InvalidInputError] = []
    for start in range(0, len(outcomes), _BATCH):
        end = start + _BATCH
        answers += await core.outcomes.record(outcomes[start:end], origins[start:end])
    return answers


def origins_of(outcomes: Sequence[Outcome]) -> list[str | None]:
    """By what an outcome without a decision is recognised when its file is imported again: its content, and which one
    of those with that content it is, because two attempts may be alike."""
    seen = Counter[str]()
    origins: list[str | None] = []
    for outcome in outcomes:
        if outcome.decision_id is not None:
            origins.append(None)
            continue
        content = hashlib.sha256(_SORTED.encode(outcome)).hexdigest()
        seen[content] += 1
        origins.append(f"{content}:{seen[content]}")
    return origins


async def _import(settings: Settings, outcomes: list[Outcome]) -> list[Recording | InvalidInputError]:
    async with running_core(settings, learned=False) as core:
        await core.store.start()
        return await record(core, outcomes, origins_of(outcomes))


async def _export(settings: Settings) -> None:
    async with running_core(settings, learned=False) as core:
        await core.store.start()
        async for recorded in core.store.outcomes.export():
            line = {k: v for k, v in msgspec.to_builtins(recorded.outcome).items() if v not in (None, {})}
            sys.stdout.write(_ENCODER.encode(line).decode() + "\n")
