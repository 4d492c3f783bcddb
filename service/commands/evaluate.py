"""`pointsman evaluate`: how good decisions are on recorded tasks."""

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from service.commands.common import Command, config_option, json_option, running_core, settings_of
from service.commands.outcomes import record
from service.commands.show import console, table
from service.contract.catalog import Candidate
from service.contract.settings import Settings, StoreSettings
from service.core import Core
from service.evaluation.baselines import Baseline, always, in_order, oracle, random_mix
from service.evaluation.curve import draw, svg
from service.evaluation.recorded import RecordedTask, catalog_for_tasks, catalog_of_tasks, history_of, read_tasks
from service.evaluation.replay import PolicyResult, Verifier, play, summarise
from service.logs.output import print_json

_FILE = click.Path(dir_okay=False, path_type=Path)
_SHARE = click.FloatRange(0, 1)
_VALUE = click.FloatRange(min=0, min_open=True)


class _Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be evaluated, and how."""

    tasks: list[RecordedTask]
    history: list[RecordedTask]
    catalog_from_tasks: bool
    values: tuple[float, ...]
    policies: tuple[str, ...]
    max_attempts: int | None
    seed: int
    verifier: Verifier


@click.command("evaluate", cls=Command)
@click.argument("tasks_file", metavar="TASKS.jsonl", type=_FILE)
@click.option("--learn", "history", type=_FILE, help="Tasks to learn from first.")
@click.option("--value-usd", "values", type=_VALUE, multiple=True, help="Repeatable.")
@click.option(
    "--policy", "policies", type=click.Choice(["classifier", "forecast", "blend"]), multiple=True, help="Repeatable."
)
@click.option("--max-attempts", type=click.IntRange(min=1), help="No limit where it is not given.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many tasks.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals and of the verifier.")
@click.option("--false-accept", type=_SHARE, default=0.0, help="Share of failures that the verifier lets pass.")
@click.option("--false-reject", type=_SHARE, default=0.0, help="Share of solutions that the verifier turns down.")
@click.option(
    "--catalog-from-tasks", is_flag=True, help="Make the catalog of the tasks' models; nothing known of them."
)
@click.option("--plot", type=_FILE, help="Write the cost-quality curve as SVG.")
@config_option
@json_option
def command(config: str | None, tasks_file: Path, *, as_json: bool, plot: Path | None, **given: Any) -> None:  # noqa: ANN401 - click's values
    """Put each task of TASKS.jsonl through the pipeline and play its recorded outcomes back."""
    settings = settings_of(config)
    tasks = read_tasks(tasks_file, limit=given["limit"])
    evaluation = _Evaluation(
        tasks=tasks,
        history=read_tasks(given["history"]) if given["history"] else [],
        catalog_from_tasks=given["catalog_from_tasks"],
        values=given["values"] or (settings.decision.value_usd(None),),
        policies=given["policies"] or _default_policies(settings),
        max_attempts=given["max_attempts"],
        seed=given["seed"],
        verifier=Verifier(given["false_accept"], given["false_reject"], given["seed"]),
    )
    results, baselines = asyncio.run(_evaluate(settings, evaluation))
    if plot is not None:
        try:
            plot.write_text(svg(results, _shown(baselines), title=f"{len(tasks)} tasks"), encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"{plot}: {error.strerror}") from None
    if as_json:
        print_json({"tasks": len(tasks), "policies": results, "baselines": baselines})
    else:
        _show(len(tasks), results, baselines)


def _default_policies(settings: Settings) -> tuple[str, ...]:
    """Both where a classifier is configured; without one they are the same."""
    asked = settings.local_model.endpoint or settings.cli.command or settings.cli.preset
    return ("classifier", "forecast") if asked else ("forecast",)


async def _evaluate(settings: Settings, evaluation: _Evaluation) -> tuple[list[PolicyResult], list[Baseline]]:
    """Every policy at every value, and the baselines."""
    results: list[PolicyResult] = []
    candidates: list[Candidate] = []
    for policy in evaluation.policies:
        async with running_core(_isolated(settings, policy), learned=False) as core:
            await _learn(core, evaluation)
            knowledge = core.pipeline.knowledge
            candidates = sorted(knowledge.catalog.candidates, key=knowledge.forecaster.cost_usd)
            for value in evaluation.values:
                played = [
                    await play(
                        core.pipeline,
                        task,
                        value_usd=value,
                        max_attempts=evaluation.max_attempts,
                        verifier=evaluation.verifier,
                    )
                    for task in evaluation.tasks
                ]
                results.append(summarise(policy, value, played, seed=evaluation.seed))
    return results, _baselines(evaluation, [candidate.model for candidate in candidates], results)


def _isolated(settings: Settings, policy: str) -> Settings:
    """The settings over a store of its own, in memory: an evaluation leaves no trace and learns from none."""
    decision = msgspec.structs.replace(settings.decision, first_choice=policy, cache_seconds=0.0)
    return msgspec.structs.replace(settings, decision=decision, store=StoreSettings(url="sqlite://"))


async def _learn(core: Core, evaluation: _Evaluation) -> None:
    """Puts the tasks' catalog into use, and what the history teaches."""
    everything = [*evaluation.tasks, *evaluation.history]
    if evaluation.catalog_from_tasks:
        catalog = catalog_of_tasks(everything)
    else:
        catalog = catalog_for_tasks(core.pipeline.knowledge.catalog, everything)
    core.use_catalog(catalog)
    await core.store.start()
    await record(core, history_of(evaluation.history, catalog))
    await core.learner.catch_up()


def _baselines(evaluation: _Evaluation, models: list[str], results: list[PolicyResult]) -> list[Baseline]:
    """`models` has the cheapest first."""
    tasks, verifier = evaluation.tasks, evaluation.verifier
    singles = [always(tasks, model) for model in models]
    cheapest = in_order("cheapest-first", tasks, models, max_attempts=evaluation.max_attempts, verifier=verifier)
    mixes = [
        random_mix(f"random-mix:{result.policy}:{result.value_usd:g}", singles, result.cost_usd_per_task)
        for result in results
    ]
    return [*singles, cheapest, oracle(tasks, models), *mixes]


def _shown(baselines: list[Baseline]) -> list[Baseline]:
    """Those of the picture: a mix lies on the line between two of them."""
    return [baseline for baseline in baselines if not baseline.name.startswith("random-mix")]


def _show(number: int, results: list[PolicyResult], baselines: list[Baseline]) -> None:
    titles = ("policy", "solved", "95 %", "cost per task", "attempts", "ms p50", "ms p99")
    policies = table(*titles, title=f"{number} tasks")
    for result in results:
        low, high = result.solve_rate_ci95
        policies.add_row(
            f"{result.policy}, value ${result.value_usd:g}",
            f"{result.solve_rate:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"${result.cost_usd_per_task:.4f}",
            f"{result.attempts_per_task:.2f}",
            f"{result.latency_ms['p50']:.2f}",
            f"{result.latency_ms['p99']:.2f}",
        )
    policies.add_section()
    for baseline in baselines:
        policies.add_row(baseline.name, f"{baseline.solve_rate:.1%}", "", f"${baseline.cost_usd_per_task:.4f}")
    out = console()
    out.print(policies)
    out.print("")
    out.print(draw(results, _shown(baselines)), markup=False, highlight=False)
