"""`pointsman report`: what was decided and what came of it, as tables and plots in the terminal."""

import asyncio

import click

from service.base.clock import utc_now
from service.commands.common import Command, config_option, json_option, running_core, settings_of
from service.commands.show_report import show_report
from service.contract.report import Report
from service.contract.settings import Settings
from service.logs.output import print_json
from service.observe.report import DAYS, Question, question_of, report_of


@click.command("report", cls=Command)
@click.option("--days", default=f"{DAYS:g}", show_default=True, help="How many days up to now.")
@click.option(
    "--baseline", metavar="AGENT/MODEL[@EFFORT]", help="What always using it would have cost and solved, estimated."
)
@config_option
@json_option
def command(config: str | None, days: str, baseline: str | None, *, as_json: bool) -> None:
    """Show what was decided and what came of it: solved, spent, and whether the forecast keeps its word."""
    question = question_of({"days": days, **({"baseline": baseline} if baseline else {})})
    report = asyncio.run(_report(settings_of(config), question))
    if as_json:
        print_json(report)
    else:
        show_report(report)


async def _report(settings: Settings, question: Question) -> Report:
    async with running_core(settings, learned=False) as core:
        await core.store.start()
        return await report_of(core.store, question, utc_now())
