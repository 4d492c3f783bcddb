"""`pointsman replay`: the logged requests decided anew, with another catalog or other settings."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import click
import msgspec

from service.base.clock import utc_now
from service.commands.common import Command, config_option, json_option, running_core, settings_of
from service.commands.show import console, named, table
from service.contract.settings import Settings
from service.core import Core
from service.evaluation.changes import Change, Changes, Replay
from service.evaluation.logged import Replayer
from service.knowledge.knowledge import InUse, Knowledge, read_knowledge
from service.knowledge.learner import Learner
from service.logs.output import print_json

PAGE = 200
"""Decisions read at once: less than a megabyte."""

LIMIT = 10_000


@click.command("replay", cls=Command)
@click.option("--catalog", type=click.Path(dir_okay=False, path_type=Path), help="Another catalog.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True, max=3660), default=7.0, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), default=LIMIT, show_default=True, help="The newest so many.")
@click.option("--without-verdicts", is_flag=True, help="Let the forecast choose where a classifier did.")
@config_option
@json_option
def command(
    config: str | None, catalog: Path | None, *, days: float, limit: int, without_verdicts: bool, as_json: bool
) -> None:
    """Decide the logged requests anew and show what would change, and what that is expected to be worth.

    Nothing is asked and nothing is recorded: what was read from a task's text is taken from the log.
    """
    settings = settings_of(config)
    if catalog is not None:
        named_catalog = msgspec.structs.replace(settings.catalog, path=str(catalog))
        settings = msgspec.structs.replace(settings, catalog=named_catalog)
    replay = asyncio.run(_replay(settings, days=days, limit=limit, verdicts=not without_verdicts))
    if as_json:
        print_json(replay)
    else:
        _show(replay)


async def _replay(settings: Settings, *, days: float, limit: int, verdicts: bool) -> Replay:
    knowledge = read_knowledge(settings)
    changes = Changes()
    async with running_core(settings, learned=False) as core:
        await core.store.start()
        replayer = Replayer(await _learned(core, knowledge, settings), verdicts=verdicts)
        since = utc_now() - timedelta(days=days)
        before: str | None = None
        done = 0
        while page := await core.store.decisions.requests(since=since, before=before, limit=min(PAGE, limit - done)):
            for stored in page:
                changes.add(await replayer.decide(stored))
            before, done = page[-1].decision_id, done + len(page)
            _progress(f"{done:,} requests decided anew")
            if done >= limit:
                break
    _progress("")
    return changes.document()


def _progress(text: str) -> None:
    """On a terminal only, in one line that is written over."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)


async def _learned(core: Core, knowledge: Knowledge, settings: Settings) -> Knowledge:
    """With what the recorded outcomes teach about this catalog."""
    in_use = InUse(knowledge)
    await Learner(core.store.outcomes, in_use, settings.learning, core.store.snapshots.read_only()).catch_up()
    return in_use.knowledge


def _show(replay: Replay) -> None:
    out = console()
    if not replay.replayed:
        out.print("No request is on record in this span" + (", whole." if replay.not_kept else "."))
    share = replay.changed / replay.replayed if replay.replayed else 0.0
    figures = table("", "", heads=False)
    figures.add_row("requests decided anew", f"{replay.replayed:,}")
    figures.add_row("  another candidate first", f"{replay.changed:,} ({share:.1%})")
    figures.add_row("  nothing could take them any more", f"{replay.refused:,}")
    if replay.not_kept:
        figures.add_row("logged by an older version, left out", f"{replay.not_kept:,}")
    figures.add_row("expected gain in all, an estimate", _signed(replay.gain_usd))
    out.print(figures)
    if replay.plans_before and replay.plans_after:
        plans = table("plans, by the forecast", "solve", "cost")
        for name, mean in (("then", replay.plans_before), ("now", replay.plans_after)):
            plans.add_row(name, f"{mean.p_solve:.1%}", f"${mean.cost_usd:.4f}")
        out.print("")
        out.print(plans)
    if replay.changes:
        rows = table("from", "to", "requests", "expected gain")
        rows.columns[1].justify, rows.columns[1].no_wrap, rows.columns[1].overflow = "left", False, "fold"
        for one in replay.changes:
            rows.add_row(*_names(one), f"{one.n:,}", _signed(one.gain_usd) if one.compared else "not known")
        out.print("")
        out.print(rows)


def _names(change: Change) -> tuple[str, str]:
    one, other = change.before, change.to
    to = "nobody" if other is None else named(other.agent_type, other.model, other.effort)
    return named(one.agent_type, one.model, one.effort), to


def _signed(dollars: float) -> str:
    return f"{'-' if dollars < 0 else '+'}${abs(dollars):,.4f}"
