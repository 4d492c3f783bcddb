"""`pointsman catalog`: the candidates with their forecast numbers."""

import asyncio

import click

from service.commands.common import Command, config_option, json_option, running_core, settings_of
from service.commands.show import show_catalog
from service.contract.settings import Settings
from service.knowledge.knowledge import Knowledge
from service.logs.output import print_json
from service.observe.candidates import catalog_document


@click.command("catalog", cls=Command)
@config_option
@json_option
def command(config: str | None, *, as_json: bool) -> None:
    """Show every agent and model: published numbers, and what recorded outcomes made of them."""
    knowledge = asyncio.run(_learned(settings_of(config)))
    if as_json:
        print_json(catalog_document(knowledge))
    else:
        show_catalog(knowledge.forecaster.abilities())


async def _learned(settings: Settings) -> Knowledge:
    async with running_core(settings) as core:
        return core.in_use.knowledge
