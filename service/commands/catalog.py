"""`pointsman catalog`: the candidates with their forecast numbers."""

from typing import Any

import click

from service.commands.common import config_option, json_option, print_json, run, running_core, settings_of
from service.commands.show import show_catalog
from service.contract.settings import Settings
from service.forecast.forecaster import AbilityReport
from service.observe.report import catalog_document


@click.command("catalog", short_help="Show the candidates with their forecast numbers.")
@config_option
@json_option
def command(config: str | None, *, as_json: bool) -> None:
    """Show every agent and model: published numbers, and what recorded outcomes made of them."""
    document, reports = run(_read(settings_of(config)))
    if as_json:
        print_json(document)
    else:
        show_catalog(reports)


async def _read(settings: Settings) -> tuple[dict[str, Any], list[AbilityReport]]:
    async with running_core(settings) as core:
        knowledge = core.in_use.knowledge
        return catalog_document(knowledge), knowledge.forecaster.abilities()
