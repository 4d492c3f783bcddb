"""`pointsman catalog`: the candidates with their forecast numbers."""

import asyncio

import click

from service.base.text import one_line
from service.commands.common import Command, config_option, json_option, running_core, settings_of
from service.commands.show import show_catalog
from service.contract.settings import Settings
from service.knowledge.knowledge import Knowledge
from service.logs.output import print_json
from service.observe.candidates import catalog_document


@click.command("catalog", cls=Command)
@click.option("--kind", help="The numbers for this kind of work, an id of the catalog's kinds.")
@config_option
@json_option
def command(config: str | None, kind: str | None, *, as_json: bool) -> None:
    """Show every agent and model: published numbers, and what recorded outcomes made of them."""
    knowledge = asyncio.run(_learned(settings_of(config)))
    kinds = knowledge.catalog.kind_ids
    if kind is not None and kind not in kinds:
        known = f"expected one of {', '.join(kinds)}" if kinds else "the catalog has no kinds"
        raise click.UsageError(f"--kind: {known}, got {one_line(kind, 80)}")
    if as_json:
        print_json(catalog_document(knowledge))
    else:
        show_catalog(knowledge.forecaster.abilities(), kind)


async def _learned(settings: Settings) -> Knowledge:
    async with running_core(settings) as core:
        return core.in_use.knowledge
