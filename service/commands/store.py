"""`pointsman store copy`: what is recorded in one database taken over into another."""

import asyncio

import click
import msgspec

from service.commands.common import PROBLEM, Command, config_option, json_option
from service.logs.lines import configure_command_logging
from service.logs.output import print_json, say
from service.store.copying import Copied, TableCopied, copy_all

_STEP = 1000
"""Rows between two lines of progress."""


@click.group("store")
def command() -> None:
    """What is recorded, as a whole."""


@command.command("copy", cls=Command)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@config_option
@json_option
def copy(source: str, target: str, config: str | None, *, as_json: bool) -> None:
    """Copy decisions, outcomes and executions from one database to another, each named as in `store.url`.

    TO may be missing, empty or in use. Nothing is copied twice, so that after an interruption, or when more has been
    recorded, the same command goes on. A password need not stand here: PGPASSWORD is read too.
    """
    del config
    configure_command_logging()
    told = {"decisions": 0, "outcomes": 0, "executions": 0}

    def progress(table: str, done: int) -> None:
        if done // _STEP > told[table] // _STEP:
            say(f"{table}: {done}", err=True)
        told[table] = done

    copied = asyncio.run(copy_all(source, target, progress))
    if as_json:
        print_json(copied)
    else:
        _show(copied)
    if copied.outcomes.conflict:
        raise SystemExit(PROBLEM)


def _show(copied: Copied) -> None:
    for field in msgspec.structs.fields(copied):
        table: TableCopied = getattr(copied, field.name)
        line = f"{field.name}: {table.copied} copied, {table.there} were there already"
        if table.changed:
            line += f", {table.changed} brought up to date"
        if table.conflict:
            line += f", {len(table.conflict)} in conflict with another outcome of the same attempt"
        say(line)
    for outcome_id in copied.outcomes.conflict:
        say(f"in conflict, not copied: {outcome_id}", err=True)
