"""A decision and a catalog as a person reads them, so that one look is enough. Colour only on a terminal."""

import os
import sys
from dataclasses import replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from service.base.text import one_line
from service.contract.decision import Decision
from service.contract.task import Task, key_of, name_of
from service.forecast.ability_report import AbilityReport, KindReport

_WIDTH_WITHOUT_TERMINAL = 110
_ENDLESS = 10_000

WIDE = 100
"""Columns from which on pictures are larger."""


def console() -> Console:
    """For stdout; as wide as a terminal, or a fixed width where there is none, so that nothing is cut in a pipe."""
    # Highlighting by itself would colour a name such as gpt-5-mini in three pieces.
    if not sys.stdout.isatty():
        return Console(width=_WIDTH_WITHOUT_TERMINAL, color_system=None, force_terminal=False, highlight=False)
    return Console(color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False)


class FittingTable(Table):
    """Where it is too wide, its least telling columns are left out and named below it; names are not cut for them."""

    least_telling: tuple[int, ...] = ()
    """Which columns may go, the first one first."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As its base class does, once it fits."""
        everything, gone = list(self.columns), list[int]()
        for index in self.least_telling:
            if Measurement.get(console, options.update_width(_ENDLESS), self).maximum <= options.max_width:
                break
            gone.append(index)
            kept = [column for number, column in enumerate(everything) if number not in gone]
            self.columns = [replace(column, _index=number) for number, column in enumerate(kept)]
        if gone:
            headers = ", ".join(str(everything[index].header) for index in gone)
            self.caption = f"no room for: {headers} (--json has them)"
        yield from super().__rich_console__(console, options)


def table(
    first: str, *others: str, title: str | None = None, heads: bool = True, least_telling: tuple[int, ...] = ()
) -> FittingTable:
    """Without lines; its first column to the left and the others, which are figures, to the right.

    Figures are never broken. A name that has no room, when no more can be left out, goes on in the next line, whole.
    """
    made = FittingTable(
        box=None,
        pad_edge=False,
        collapse_padding=True,
        padding=(0, 2),
        header_style="dim",
        title=title,
        title_justify="left",
        show_header=heads,
    )
    made.caption_justify = "left"
    made.least_telling = least_telling
    made.add_column(first, overflow="fold")
    for other in others:
        made.add_column(other, justify="right", no_wrap=True)
    return made


def named(agent_type: str, model: str, effort: str | None = None) -> str:
    """A candidate's name, as `agent/model@effort`."""
    return safe(name_of(agent_type, model, effort))


def show_decision(decision: Decision, task: Task) -> None:
    """The choice, why, the plan, and why not the others."""
    out = console()
    out.print(
        f"[bold green]{safe(decision.agent_type)} / {safe(decision.key[1])}[/]  [dim]by {safe(decision.source)}[/]"
    )
    out.print(f"  {safe(decision.reason)}")
    for failure in decision.failures:
        out.print(f"  [yellow]{safe(failure.source)}: {safe(failure.problem)}[/]: {safe(failure.detail)}")
    if not decision.worthwhile:
        out.print("  [red]Not worthwhile: this attempt is expected to cost more than it is worth.[/]")
    out.print()
    plan = table("plan", "solves", "cost")
    for number, step in enumerate(decision.plan, 1):
        when = "" if number == 1 else "[dim]if that fails[/] "
        plan.add_row(
            f"{number}. {when}{safe(step.agent_type)} / {safe(step.key[1])}",
            f"{step.p_solve:.0%}",
            f"${step.cost_usd:.3f}",
        )
    plan.add_row("[dim]as a whole[/]", f"{decision.plan_p_solve:.0%}", f"${decision.plan_cost_usd:.3f}")
    out.print(plan)
    if decision.excluded:
        out.print("\n[dim]not eligible[/]")
        for pair in decision.excluded:
            out.print(f"  {safe(pair.agent_type)} / {safe(pair.key[1])}: {safe(pair.why)}")
    if task.explain and isinstance(decision.explanation, dict):
        out.print("\n[dim]explanation[/]")
        out.print_json(data=decision.explanation, ensure_ascii=True)
    spent = decision.usage
    cost = f", {spent.tokens_in} + {spent.tokens_out} tokens, ${spent.cost_usd:.4f}" if spent.tokens_in else ""
    out.print(f"\n[dim]decision {safe(decision.decision_id)} in {decision.timings_ms.get('total', 0):.1f} ms{cost}[/]")


def show_catalog(reports: list[AbilityReport], kind: str | None = None) -> None:
    """Every candidate: published or assumed numbers, and what outcomes made of them; for one kind where asked."""
    candidates = table("candidate", "published", "cost", "learned", "cost", "outcomes", least_telling=(2, 1))
    for report in reports:
        numbers: AbilityReport | KindReport = report if kind is None else report.kinds[kind]
        candidates.add_row(
            f"{safe(report.agent_type)} / {safe(key_of(report.agent_type, report.model, report.effort)[1])}",
            "?" if numbers.prior_solve_rate is None else f"{numbers.prior_solve_rate:.0%}",
            "?" if numbers.prior_cost_usd is None else f"${numbers.prior_cost_usd:.3f}",
            f"{numbers.learned_solve_rate:.0%}",
            f"${numbers.learned_cost_usd:.3f}",
            str(numbers.n),
        )
    console().print(candidates)


def safe(text: str) -> str:
    """Fit for a terminal: no escape sequences, no markup."""
    return escape(one_line(text, 500))
