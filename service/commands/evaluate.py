"""`pointsman evaluate`: how good decisions are on recorded tasks."""

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from service.commands.common import config_option, end_with, json_option, print_json, run, settings_of
from service.commands.show import console
from service.contract.catalog import Catalog
from service.contract.errors import PointsmanError
from service.contract.settings import Settings, StoreSettings
from service.core import Core
from service.evaluation.baselines import Baseline, always, ladder, oracle, random_mix
from service.evaluation.curve import Point, draw, svg
from service.evaluation.recorded import RecordedTask, catalog_for_tasks, catalog_of_tasks, history_of, read_tasks
from service.evaluation.replay import PolicyResult, Verifier, play_all, summarise

_BATCH = 1000
_SHARE = click.FloatRange(0, 1)


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """What one run was asked for."""

    values: tuple[float, ...]
    policies: tuple[str, ...]
    max_attempts: int | None
    seed: int
    verifier: Verifier


@click.command("evaluate", short_help="Measure how good decisions are on recorded tasks.")
@click.argument("tasks_file", metavar="TASKS.jsonl", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--learn", "history", type=click.Path(dir_okay=False, path_type=Path), help="Tasks to learn from first.")
@click.option("--value-usd", "values", type=click.FloatRange(min=0, min_open=True), multiple=True, help="Repeatable.")
@click.option("--policy", "policies", type=click.Choice(["classifier", "forecast"]), multiple=True, help="Repeatable.")
@click.option("--max-attempts", type=click.IntRange(min=1), help="No limit where it is not given.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many tasks.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals and of the verifier.")
@click.option("--false-accept", type=_SHARE, default=0.0, help="Share of failures that the verifier lets pass.")
@click.option("--false-reject", type=_SHARE, default=0.0, help="Share of solutions that the verifier turns down.")
@click.option(
    "--catalog-from-tasks", is_flag=True, help="Make the catalog of the tasks' models; nothing known of them."
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write the cost-quality curve as SVG.")
@config_option
@json_option
def command(config: str | None, tasks_file: Path, *, as_json: bool, plot: Path | None, **given: Any) -> None:  # noqa: ANN401 - click's values
    """Put each task of TASKS.jsonl through the pipeline and play its recorded outcomes back."""
    settings = settings_of(config)
    options = _Options(
        values=given["values"] or (settings.decision.value_usd(None),),
        policies=given["policies"],
        max_attempts=given["max_attempts"],
        seed=given["seed"],
        verifier=Verifier(given["false_accept"], given["false_reject"], given["seed"]),
    )
    try:
        tasks = read_tasks(tasks_file, limit=given["limit"])
        history = read_tasks(given["history"]) if given["history"] else []
        results, baselines = run(
            evaluate(settings, tasks, history, options, catalog_from_tasks=given["catalog_from_tasks"])
        )
        if plot is not None:
            plot.write_text(svg(_points(results, baselines), title=f"{len(tasks)} tasks"), encoding="utf-8")
    except PointsmanError as error:
        end_with(error, as_json=as_json)
    except OSError as error:
        raise click.UsageError(f"{plot}: {error.strerror}") from None
    if as_json:
        print_json({"tasks": len(tasks), "policies": results, "baselines": baselines})
    else:
        _show(len(tasks), results, baselines)


async def evaluate(
    settings: Settings,
    tasks: list[RecordedTask],
    history: list[RecordedTask],
    options: _Options,
    *,
    catalog_from_tasks: bool,
) -> tuple[list[PolicyResult], list[Baseline]]:
    """Every policy at every value, and the baselines."""
    results: list[PolicyResult] = []
    catalog: Catalog | None = None
    order: list[str] = []
    for policy in options.policies or _default_policies(settings):
        core = Core(_isolated(settings, policy))
        try:
            catalog = await _prepare(core, tasks, history, catalog_from_tasks=catalog_from_tasks)
            cost = core.pipeline.knowledge.forecaster.cost_usd
            order = [c.model for c in sorted(catalog.candidates, key=cost)]
            for value in options.values:
                played = await play_all(
                    core.pipeline,
                    tasks,
                    value_usd=value,
                    max_attempts=options.max_attempts,
                    verifier=options.verifier,
                )
                results.append(summarise(policy, value, played, seed=options.seed))
        finally:
            await core.aclose()
    return results, _baselines(tasks, order, results, options)


def _default_policies(settings: Settings) -> tuple[str, ...]:
    """Both where a classifier is configured; without one they are the same."""
    asked = settings.local_model.endpoint or settings.cli.command or settings.cli.preset
    return ("classifier", "forecast") if asked else ("forecast",)


def _isolated(settings: Settings, policy: str) -> Settings:
    """The settings over a store of its own, in memory: an evaluation leaves no trace and learns from none."""
    decision = msgspec.structs.replace(settings.decision, first_choice=policy, cache_seconds=0.0)
    return msgspec.structs.replace(settings, decision=decision, store=StoreSettings(url="sqlite://"))


async def _prepare(
    core: Core, tasks: list[RecordedTask], history: list[RecordedTask], *, catalog_from_tasks: bool
) -> Catalog:
    """The catalog in use, with what the history teaches learned."""
    everything = [*tasks, *history]
    catalog = (
        catalog_of_tasks(everything)
        if catalog_from_tasks
        else catalog_for_tasks(core.pipeline.knowledge.catalog, everything)
    )
    core.use_catalog(catalog)
    await core.store.start()
    outcomes = history_of(history, catalog)
    for start in range(0, len(outcomes), _BATCH):
        await core.store.outcomes.record(outcomes[start : start + _BATCH])
    await core.learner.catch_up()
    return catalog


def _baselines(
    tasks: list[RecordedTask], order: list[str], results: list[PolicyResult], options: _Options
) -> list[Baseline]:
    singles = [always(tasks, model) for model in order]
    cheapest = ladder("cheapest-first", tasks, order, max_attempts=options.max_attempts, verifier=options.verifier)
    mixes = [
        random_mix(f"random-mix:{result.policy}:{result.value_usd:g}", singles, result.cost_usd_per_task)
        for result in results
    ]
    return [*singles, cheapest, oracle(tasks, order), *mixes]


def _points(results: list[PolicyResult], baselines: list[Baseline]) -> list[Point]:
    ours = [
        Point(f"{result.policy} at ${result.value_usd:g}", result.cost_usd_per_task, result.solve_rate, ours=True)
        for result in results
    ]
    others = [
        Point(baseline.name, baseline.cost_usd_per_task, baseline.solve_rate, ours=False)
        for baseline in baselines
        if not baseline.name.startswith("random-mix")
    ]
    return [*ours, *others]


def _show(number: int, results: list[PolicyResult], baselines: list[Baseline]) -> None:
    out = console()
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim", title=f"{number} tasks")
    for title in ("policy", "solved", "95 %", "cost per task", "attempts", "ms p50", "ms p99"):
        table.add_column(title, justify="left" if title == "policy" else "right")
    for result in results:
        low, high = result.solve_rate_ci95
        table.add_row(
            f"{result.policy}, value ${result.value_usd:g}",
            f"{result.solve_rate:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"${result.cost_usd_per_task:.4f}",
            f"{result.attempts_per_task:.2f}",
            f"{result.latency_ms['p50']:.2f}",
            f"{result.latency_ms['p99']:.2f}",
        )
    table.add_section()
    for baseline in baselines:
        table.add_row(baseline.name, f"{baseline.solve_rate:.1%}", "", f"${baseline.cost_usd_per_task:.4f}")
    out.print(table)
    out.print("")
    out.print(draw(_points(results, baselines)), markup=False, highlight=False)
