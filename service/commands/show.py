"""A decision and a catalog as a person reads them, so that one look is enough. Colour only on a terminal."""

import os
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.base.text import one_line
from service.contract.decision import Decision
from service.contract.task import Task, key_of
from service.forecast.forecaster import AbilityReport

_WIDTH_WITHOUT_TERMINAL = 110


def console() -> Console:
    """For stdout; as wide as a terminal, or a fixed width where there is none, so that nothing is cut in a pipe."""
    if not sys.stdout.isatty():
        return Console(width=_WIDTH_WITHOUT_TERMINAL, color_system=None, force_terminal=False)
    return Console(color_system=None if os.environ.get("NO_COLOR") else "auto")


def table(first: str, *others: str, title: str | None = None) -> Table:
    """Without lines; its first column to the left and the others, which are figures, to the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim", title=title)
    made.add_column(first)
    for other in others:
        made.add_column(other, justify="right")
    return made


def show_decision(decision: Decision, task: Task) -> None:
    """The choice, why, the plan, and why not the others."""
    out = console()
    out.print(
        f"[bold green]{_safe(decision.agent_type)} / {_safe(decision.key[1])}[/]  [dim]by {_safe(decision.source)}[/]"
    )
    out.print(f"  {_safe(decision.reason)}")
    for failure in decision.failures:
        out.print(f"  [yellow]{_safe(failure.source)}: {_safe(failure.problem)}[/]: {_safe(failure.detail)}")
    if not decision.worthwhile:
        out.print("  [red]Not worthwhile: this attempt is expected to cost more than it is worth.[/]")
    out.print()
    plan = table("plan", "solves", "cost")
    for number, step in enumerate(decision.plan, 1):
        when = "" if number == 1 else "[dim]if that fails[/] "
        plan.add_row(
            f"{number}. {when}{_safe(step.agent_type)} / {_safe(step.key[1])}",
            f"{step.p_solve:.0%}",
            f"${step.cost_usd:.3f}",
        )
    plan.add_row("[dim]as a whole[/]", f"{decision.plan_p_solve:.0%}", f"${decision.plan_cost_usd:.3f}")
    out.print(plan)
    if decision.excluded:
        out.print("\n[dim]not eligible[/]")
        for pair in decision.excluded:
            out.print(f"  {_safe(pair.agent_type)} / {_safe(pair.key[1])}: {_safe(pair.why)}")
    if task.explain and isinstance(decision.explanation, dict):
        out.print("\n[dim]explanation[/]")
        out.print_json(data=decision.explanation, ensure_ascii=True)
    spent = decision.usage
    cost = f", {spent.tokens_in} + {spent.tokens_out} tokens, ${spent.cost_usd:.4f}" if spent.tokens_in else ""
    out.print(f"\n[dim]decision {_safe(decision.decision_id)} in {decision.timings_ms.get('total', 0):.1f} ms{cost}[/]")


def show_catalog(reports: list[AbilityReport]) -> None:
    """Every candidate: published or assumed numbers, and what outcomes made of them."""
    candidates = table("candidate", "published", "cost", "learned", "cost", "outcomes")
    for report in reports:
        candidates.add_row(
            f"{_safe(report.agent_type)} / {_safe(key_of(report.agent_type, report.model, report.effort)[1])}",
            "?" if report.prior_solve_rate is None else f"{report.prior_solve_rate:.0%}",
            "?" if report.prior_cost_usd is None else f"${report.prior_cost_usd:.3f}",
            f"{report.learned_solve_rate:.0%}",
            f"${report.learned_cost_usd:.3f}",
            str(report.n),
        )
    console().print(candidates)


def _safe(text: str) -> str:
    """Fit for a terminal: no escape sequences, no markup."""
    return escape(one_line(text, 500))
