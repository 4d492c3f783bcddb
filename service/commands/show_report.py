"""A report as a person reads it in a terminal of 80 columns and more."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table

from service.commands.show import console, named, safe, table
from service.contract.report import Agreement, BaselineEstimate, CandidateMoney, OverallAgreement, Report, Said

PLOT = (10, 40)
"""Characters from 0 to 100 %, fewest and most: what the terminal has room for beside names and figures."""

FIGURES = 32
"""Characters between a name and its plot, without those of the largest n, and of what follows the plot."""


def show_report(report: Report) -> None:
    """The figures, whether the forecast keeps its word, who was right, what it saves, where the money went."""
    out = console()
    out.print(f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC\n", highlight=False)
    out.print(_figures(report))
    if report.overall is None:
        out.print("\nNo outcome of a decision is on record in this span: nothing to compare the forecast with.")
    else:
        out.print("\n[bold]Does the forecast keep its word?[/]  | said   o seen   - its 95 % interval")
        rows: list[tuple[str, Said]] = [("all", report.overall)]
        rows += [(f"attempt {one.step}", one) for one in report.by_step]
        rows += [(f"kind {safe(one.kind or 'not known')}", one) for one in report.by_kind]
        rows += [(named(one.agent_type, one.model, one.effort), one) for one in report.by_candidate]
        out.print(_calibration(rows, out.width))
    for made in (*_agreements(report.agreement), _baseline(report.baseline), _money(report.money)):
        if made is not None:
            out.print("")
            out.print(made)


def _figures(report: Report) -> Table:
    spent, attempts = report.spent, report.attempts
    shown = table("", "", heads=False)
    shown.add_row("decisions", f"{report.decisions:,}")
    for source, n in report.by_source.items():
        shown.add_row(f"  by {safe(source)}", f"{n:,}")
    shown.add_row("  degraded", f"{report.degraded:,}")
    shown.add_row("attempts reported", f"{attempts:,}")
    shown.add_row("  solved", f"{report.solved:,}")
    shown.add_row("spent on attempts", f"${spent.attempts_usd:,.2f}")
    if spent.priced < attempts:
        shown.add_row("  of which so many told their cost", f"{spent.priced:,}")
    shown.add_row("spent on classifying", f"${spent.classifying_usd:,.4f}")
    shown.add_row("for each solved", "not known" if spent.usd_per_solved is None else f"${spent.usd_per_solved:,.4f}")
    return shown


def _calibration(rows: Sequence[tuple[str, Said]], width: int) -> Table:
    fewest, most = PLOT
    beside = max(cell_len(name) for name, _ in rows) + max(len(f"{one.n:,}") for _, one in rows) + FIGURES
    plot = min(max(width - beside, fewest), most)
    shown = table("", "said", "seen", "95 %", "n", "0 to 100 %", least_telling=(3, 1))
    shown.columns[-1].justify = "left"
    for name, one in rows:
        low, high = one.ci95
        shown.add_row(
            name,
            f"{one.said:.0%}",
            f"{one.seen:.0%}",
            f"{low:4.0%} to {high:4.0%}",
            f"{one.n:,}",
            line(one, plot) + ("" if one.kept_word else " *"),
        )
    if any(not one.kept_word for _, one in rows):
        shown.caption = "* what was said lies outside the interval of what was seen"
        shown.caption_justify = "left"
    return shown


def line(one: Said, width: int) -> str:
    """The interval, what was seen and what was said, on one line of so many characters."""

    def at(share: float) -> int:
        return round(min(max(share, 0.0), 1.0) * (width - 1))

    drawn = ["."] * width
    low, high = at(one.ci95[0]), at(one.ci95[1])
    drawn[low : high + 1] = ["-"] * (high + 1 - low)
    drawn[at(one.seen)] = "o"
    drawn[at(one.said)] = "|"
    return "".join(drawn)


def _agreements(agreement: OverallAgreement | None) -> list[Table]:
    if agreement is None:
        return []
    apart = [_agreement(one, f"{one.source} against forecast") for one in agreement.apart]
    return [_agreement(agreement, "classifier against forecast"), *apart]


def _agreement(agreement: Agreement, title: str) -> Table:
    shown = table(safe(title), "", heads=True)
    shown.add_row("compared", f"{agreement.compared:,}")
    shown.add_row("agreed", f"{agreement.agreed / agreement.compared:.1%}" if agreement.compared else "not known")
    shown.add_row("expected loss where they did not", f"${agreement.loss_usd:,.2f}")
    for who, right in (("classifier", agreement.classifier), ("forecast", agreement.forecast)):
        rate = f"{right.solved} of {right.n}" if right.n else "not known"
        shown.add_row(f"  solved by what only the {who} wanted", rate)
    shown.caption, shown.caption_justify = safe(agreement.worth), "left"
    return shown


def _baseline(baseline: BaselineEstimate | None) -> Table | None:
    if baseline is None:
        return None
    name = named(baseline.agent_type, baseline.model, baseline.effort)
    shown = table("estimate by the forecast, for each task", "solves", "cost")
    shown.add_row(f"always {name}", f"{baseline.baseline.p_solve:.1%}", f"${baseline.baseline.cost_usd:.4f}")
    shown.add_row("the plans made", f"{baseline.plans.p_solve:.1%}", f"${baseline.plans.cost_usd:.4f}")
    shown.caption = f"an estimate over {baseline.sample:,} decisions; nothing of it was seen"
    shown.caption_justify = "left"
    return shown


def _money(money: Sequence[CandidateMoney]) -> Table | None:
    if not money:
        return None
    shown = table("where the money went", "chosen", "attempts", "solved", "cost")
    for row in money:
        name = named(row.agent_type, row.model, row.effort)
        shown.add_row(name, f"{row.decisions:,}", f"{row.attempts:,}", f"{row.solved:,}", f"${row.cost_usd:,.2f}")
    return shown
