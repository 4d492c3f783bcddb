"""`pointsman evaluate`: how good decisions are on recorded tasks."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from service.commands.common import Command, config_option, json_option, running_core, settings_of
from service.commands.outcomes import record
from service.commands.show import WIDE, console, safe, table
from service.contract.catalog import Candidate
from service.contract.errors import WrongFileError
from service.contract.outcome import Outcome
from service.contract.settings import Settings, StoreSettings
from service.core import Core
from service.evaluation.baselines import Baseline, always, by_kind, in_order, oracle, random_mix
from service.evaluation.by_kind import EquallyWeighted, KindPart
from service.evaluation.curve import MOST_WIDE, draw, svg
from service.evaluation.recorded import Names, RecordedTask, catalog_for_tasks, catalog_of_tasks, read_tasks
from service.evaluation.replay import Played, PolicyResult, Verifier, play, summarise
from service.knowledge.knowledge import read_knowledge
from service.logs.output import print_json

_LEARN_EVERY = 5
"""Tasks between two rounds of learning from what is reported meanwhile."""

_FILE = click.Path(dir_okay=False, path_type=Path)
_SHARE = click.FloatRange(0, 1)
_USD = click.FloatRange(min=0, max=1e9)
_VALUE = click.FloatRange(min=0, min_open=True)


class _Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be evaluated, and how."""

    tasks: list[RecordedTask]
    history: list[RecordedTask]
    names: Names
    values: tuple[float, ...]
    policies: tuple[str, ...]
    max_attempts: int | None
    unlinked: bool
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
@click.option("--harm-usd", type=_USD, help="What accepted wrong work costs; tells the plans how often that is.")
@click.option(
    "--catalog-from-tasks", is_flag=True, help="Make the catalog of the tasks' models; nothing known of them."
)
@click.option(
    "--unlinked",
    is_flag=True,
    help="Report each attempt by its decision_id alone, as a scheduler does, and learn from it.",
)
@click.option("--plot", type=_FILE, help="Write the cost-quality curve as SVG.")
@config_option
@json_option
def command(config: str | None, tasks_file: Path, *, as_json: bool, plot: Path | None, **given: Any) -> None:  # noqa: ANN401 - click's values
    """Put each task of TASKS.jsonl through the pipeline and play its recorded outcomes back."""
    settings = settings_of(config)
    read = _read(tasks_file, limit=given["limit"])
    history = _read(given["history"]) if given["history"] else []
    if plot is not None and not plot.absolute().parent.is_dir():  # said now, and not after an hour's work
        raise click.UsageError(f"{plot}: cannot be written: there is no such folder")
    names = _names(settings, [*read, *history], from_tasks=given["catalog_from_tasks"])
    tasks = names.renamed(read)
    if not tasks:
        raise WrongFileError("no task has an outcome of a model of the catalog", source=str(tasks_file))
    evaluation = _Evaluation(
        tasks=tasks,
        history=names.renamed(history),
        names=names,
        values=given["values"] or (settings.decision.value_usd(None),),
        policies=given["policies"] or _default_policies(settings),
        max_attempts=given["max_attempts"],
        unlinked=given["unlinked"],
        seed=given["seed"],
        verifier=Verifier(given["false_accept"], given["false_reject"], given["seed"], given["harm_usd"]),
    )
    results, baselines = asyncio.run(_evaluate(settings, evaluation))
    if plot is not None:
        try:
            plot.write_text(svg(results, _shown(baselines), title=f"{len(tasks)} tasks"), encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"{plot}: cannot be written: {error.strerror}") from None
    if as_json:
        skipped = len(read) - len(tasks)
        print_json({"tasks": len(tasks), "skipped": skipped, "policies": results, "baselines": baselines})
    else:
        _show(len(tasks), len(read) - len(tasks), results, baselines)


def _read(file: Path, *, limit: int | None = None) -> list[RecordedTask]:
    """The tasks of a file; wrong usage where it cannot be read."""
    try:
        return read_tasks(file, limit=limit)
    except OSError as error:
        raise click.UsageError(f"{file}: cannot be read: {error.strerror}") from None


def _names(settings: Settings, tasks: list[RecordedTask], *, from_tasks: bool) -> Names:
    """The catalog that is evaluated, and what its candidates are called in the tasks."""
    if from_tasks:
        return Names(tasks, catalog_of_tasks(tasks))
    return Names(tasks, catalog_for_tasks(read_knowledge(settings).catalog, tasks))


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
            await core.local_endpoint.start(wait=True)
            await _learn(core, evaluation, evaluation.values[0])
            knowledge = core.pipeline.knowledge
            candidates = sorted(knowledge.catalog.candidates, key=knowledge.forecaster.cost_usd)
            for value in evaluation.values:
                played = await _play(core, evaluation, evaluation.tasks, value)
                results.append(summarise(policy, value, played, seed=evaluation.seed, tasks=evaluation.tasks))
    return results, _baselines(evaluation, [evaluation.names.of[one.key] for one in candidates], results)


def _isolated(settings: Settings, policy: str) -> Settings:
    """The settings over a store of its own, in memory: an evaluation leaves no trace and learns from none."""
    decision = msgspec.structs.replace(settings.decision, first_choice=policy, cache_seconds=0.0)
    return msgspec.structs.replace(settings, decision=decision, store=StoreSettings(url="sqlite://"))


async def _play(core: Core, evaluation: _Evaluation, tasks: list[RecordedTask], value_usd: float) -> list[Played]:
    """Every task; where outcomes are reported as a scheduler does, they are learned from every few tasks."""

    async def report(outcome: Outcome) -> None:
        await core.outcomes.record([outcome])

    played: list[Played] = []
    for number, task in enumerate(tasks):
        if evaluation.unlinked and number % _LEARN_EVERY == 0:
            await core.learner.catch_up()
        played.append(
            await play(
                core.pipeline,
                task,
                names=evaluation.names,
                value_usd=value_usd,
                max_attempts=evaluation.max_attempts,
                verifier=evaluation.verifier,
                report=report if evaluation.unlinked else None,
            )
        )
    return played


async def _learn(core: Core, evaluation: _Evaluation, value_usd: float) -> None:
    """Puts the tasks' catalog into use, and what the history teaches."""
    core.use_catalog(evaluation.names.catalog)
    await core.store.start()
    if evaluation.unlinked:
        await _play(core, evaluation, evaluation.history, value_usd)
    else:
        await record(core, evaluation.names.history(evaluation.history))
    await core.learner.catch_up()


def _baselines(evaluation: _Evaluation, models: list[str], results: list[PolicyResult]) -> list[Baseline]:
    """`models` has the cheapest first."""
    tasks, verifier = evaluation.tasks, evaluation.verifier
    singles = [by_kind(tasks, partial(always, model=model)) for model in models]
    cheapest = by_kind(
        tasks,
        lambda some: in_order("cheapest-first", some, models, max_attempts=evaluation.max_attempts, verifier=verifier),
    )
    mixes = [
        random_mix(f"random-mix:{result.policy}:{result.value_usd:g}", singles, result.cost_usd_per_task)
        for result in results
    ]
    return [*singles, cheapest, by_kind(tasks, partial(oracle, models=models)), *mixes]


def _shown(baselines: list[Baseline]) -> list[Baseline]:
    """Those of the picture: a mix lies on the line between two of them."""
    return [baseline for baseline in baselines if not baseline.name.startswith("random-mix")]


def _show(number: int, skipped: int, results: list[PolicyResult], baselines: list[Baseline]) -> None:
    out = console()
    wide = out.width >= WIDE
    titles = ("policy", "solved", "95 %", "wrong", "cost", "attempts", *(("ms p50", "ms p99") if wide else ()))
    without = f", {skipped} more without outcomes of the catalog" if skipped else ""
    policies = table(*titles, title=f"{number} tasks{without}", least_telling=(6, 7, 2, 5) if wide else (2, 5))
    for result in results:
        low, high = result.solve_rate_ci95
        latency = (f"{result.latency_ms['p50']:.2f}", f"{result.latency_ms['p99']:.2f}") if wide else ()
        policies.add_row(
            f"{result.policy}, value ${result.value_usd:g}",
            f"{result.solve_rate:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{result.wrong_rate:.1%}",
            f"${result.cost_usd_per_task:.4f}",
            f"{result.attempts_per_task:.2f}",
            *latency,
        )
    steps = table("policy", "step", "said", "seen", "attempts", title="chance said and share seen to solve")
    for result in results:
        for one in result.calibration:
            steps.add_row(
                f"{result.policy}, value ${result.value_usd:g}",
                str(one.step),
                f"{one.said:.1%}",
                f"{one.seen:.1%}",
                str(one.n),
            )
    policies.add_section()
    for baseline in baselines:
        policies.add_row(
            safe(baseline.name), f"{baseline.solve_rate:.1%}", "", "", f"${baseline.cost_usd_per_task:.4f}"
        )
    out.print(policies)
    if any(result.kinds for result in results):
        out.print("")
        out.print(_kinds(results, baselines) if wide else _kinds_in_rows(results, baselines))
    out.print("")
    out.print(steps)
    out.print("")
    out.print(draw(results, _shown(baselines), width=min(out.width, MOST_WIDE)), markup=False)


def _compared(
    results: list[PolicyResult], baselines: list[Baseline]
) -> Iterator[tuple[str, list[tuple[str, KindPart | EquallyWeighted | None]]]]:
    """What is compared by kind: its name, and solved and spent a task by kind and with the kinds weighted equally."""
    kinds = [part.kind for part in results[0].kinds]
    everyone: list[tuple[str, Baseline | PolicyResult]] = [
        *((f"{result.policy}, value ${result.value_usd:g}", result) for result in results),
        *((safe(baseline.name), baseline) for baseline in _shown(baselines)),
    ]
    for name, one in everyone:
        of_kind = {part.kind: part for part in one.kinds}
        parts = [(safe(kind or "no kind"), of_kind.get(kind)) for kind in kinds]
        yield name, [*parts, ("kinds equally", one.equally_weighted)]


def _kinds(results: list[PolicyResult], baselines: list[Baseline]) -> Table:
    """A column for each kind."""
    compared = list(_compared(results, baselines))
    shown = table("policy", *(kind for kind, _ in compared[0][1]), title="by kind of work")
    for name, parts in compared:
        cells = [f"{part.solve_rate:.0%} ${part.cost_usd_per_task:.3f}" if part else "" for _, part in parts]
        shown.add_row(name, *cells)
    return shown


def _kinds_in_rows(results: list[PolicyResult], baselines: list[Baseline]) -> Table:
    """A row for each kind, where there is no room for columns."""
    shown = table("policy and kind of work", "solved", "cost")
    for name, parts in _compared(results, baselines):
        shown.add_row(name)
        for kind, part in parts:
            if part is not None:
                shown.add_row(f"  {kind}", f"{part.solve_rate:.0%}", f"${part.cost_usd_per_task:.3f}")
    return shown
