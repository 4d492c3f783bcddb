"""Makes the report: what was decided in a span and what came of it, out of sums that the database adds up."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from service.base.shares import wilson
from service.contract.errors import InvalidInputError
from service.contract.report import (
    BaselineEstimate,
    CandidateMoney,
    CandidateSaid,
    Estimate,
    KindSaid,
    Report,
    Said,
    Spent,
    StepSaid,
)
from service.contract.task import name_of
from service.observe.agreement import agreement_of
from service.store import Store
from service.store.tallies import Chance, DecisionSums, OutcomeSums, SampledForecast, Span

DAYS = 7.0
"""Of a report that names no span."""

MAX_DAYS = 3660.0

SAMPLE = 500
"""Decisions that a baseline is estimated from: its mean chance is then known to some 2 points."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Over how many days up to now, and against which candidate: `agent/model`, or `agent/model@effort`."""

    days: float = DAYS
    baseline: str | None = None


def question_of(query: dict[str, str]) -> Question:
    """Reads `days` and `baseline`. Raises InvalidInputError."""
    given = query.get("days") or str(DAYS)
    try:
        days = float(given[:40])
    except ValueError:
        days = 0.0
    if not 0 < days <= MAX_DAYS:
        raise InvalidInputError(f"expected a number of days above 0, at most {MAX_DAYS:g}", path="query days")
    baseline = query.get("baseline") or None
    if baseline is not None and not all(baseline.partition("/")):
        raise InvalidInputError("expected agent/model or agent/model@effort", path="query baseline")
    return Question(days=days, baseline=baseline)


async def report_of(store: Store, question: Question, now: datetime) -> Report:
    """Raises StoreUnavailableError; InvalidInputError where the baseline stands in no forecast of the span."""
    since = max(now - timedelta(days=question.days), datetime(1970, 1, 1, tzinfo=UTC))
    span = Span(since=since, until=now + timedelta(seconds=1))
    await store.decisions.flush()
    tallies = store.tallies
    made, told, advised = await asyncio.gather(
        tallies.of_decisions(span), tallies.of_outcomes(span), tallies.of_advised(span)
    )
    baseline = None
    first = sum(one.first for one in made)
    if question.baseline is not None and first:
        sample = await tallies.forecasts(span, total=first, wanted=SAMPLE)
        baseline = _baseline(question.baseline, sample)
    return Report(
        since=span.since,
        until=span.until,
        decisions=sum(one.n for one in made),
        degraded=sum(one.degraded for one in made),
        without_facts=sum(one.n - one.known for one in made),
        by_source=_by_source(made),
        attempts=sum(one.n for one in told),
        solved=sum(one.solved for one in told),
        spent=_spent(made, told),
        by_step=[StepSaid(step=step, **said) for step, said in _said(told, lambda one: one.step)],
        by_kind=[KindSaid(kind=kind, **said) for kind, said in _said(told, lambda one: one.kind)],
        by_candidate=[
            CandidateSaid(agent_type=agent_type, model=model, effort=effort, **said)
            for (agent_type, model, effort), said in _said(told, _candidate)
        ],
        overall=next((Said(**said) for _, said in _said(told, lambda _: "all")), None),
        agreement=agreement_of(made, told, *advised),
        baseline=baseline,
        money=_money(made, told),
    )


def _said(told: Sequence[OutcomeSums], key: Callable[[OutcomeSums], Any]) -> Iterable[tuple[Any, dict[str, Any]]]:
    """What was said and seen by `key`, of attempts that a forecast gave a chance; in order, none last."""
    groups: dict[Any, list[OutcomeSums]] = {}
    for one in told:
        if one.promised:
            groups.setdefault(key(one), []).append(one)
    for name in sorted(groups, key=lambda name: (name is None, str(name))):
        n = sum(one.promised for one in groups[name])
        kept = sum(one.kept for one in groups[name])
        said = sum(one.expected for one in groups[name]) / n
        low, high = wilson(kept, n)
        yield name, {"said": said, "seen": kept / n, "ci95": (low, high), "n": n, "kept_word": low <= said <= high}


def _candidate(one: DecisionSums | OutcomeSums) -> tuple[str, str, str | None]:
    return one.agent_type, one.model, one.effort


def _by_source(made: Sequence[DecisionSums]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in made:
        counts[one.source] = counts.get(one.source, 0) + one.n
    return dict(sorted(counts.items(), key=lambda entry: -entry[1]))


def _spent(made: Sequence[DecisionSums], told: Sequence[OutcomeSums]) -> Spent:
    attempts = sum((one.cost_usd for one in told), 0.0)
    classifying = sum((one.classifying_usd for one in made), 0.0)
    solved = sum(one.solved for one in told)
    return Spent(
        attempts_usd=attempts,
        priced=sum(one.priced for one in told),
        classifying_usd=classifying,
        usd_per_solved=(attempts + classifying) / solved if solved else None,
    )


def _money(made: Sequence[DecisionSums], told: Sequence[OutcomeSums]) -> list[CandidateMoney]:
    """The dearest first; then those that only decisions name."""
    chosen: dict[Any, int] = {}
    for decided in made:
        chosen[_candidate(decided)] = chosen.get(_candidate(decided), 0) + decided.n
    attempted: dict[Any, list[OutcomeSums]] = {}
    for one in told:
        attempted.setdefault(_candidate(one), []).append(one)
    rows = [
        CandidateMoney(
            agent_type=agent_type,
            model=model,
            effort=effort,
            decisions=chosen.get((agent_type, model, effort), 0),
            attempts=sum(one.n for one in attempted.get((agent_type, model, effort), ())),
            solved=sum(one.solved for one in attempted.get((agent_type, model, effort), ())),
            cost_usd=sum(one.cost_usd for one in attempted.get((agent_type, model, effort), ())),
        )
        for agent_type, model, effort in {**chosen, **attempted}
    ]
    return sorted(rows, key=lambda row: (-row.cost_usd, -row.decisions, row.agent_type, row.model))


def _baseline(name: str, sample: Sequence[SampledForecast]) -> BaselineEstimate:
    """Of the tasks that it could have taken; beside it the plans for the same ones."""
    found = [(task, chance) for task in sample if (chance := _chance(task.candidates, name)) is not None]
    if not found:
        known = sorted({_name(one) for task in sample for one in task.candidates})[:20]
        raise InvalidInputError(
            f"expected one of {', '.join(known)}" if known else "no forecast", path="query baseline"
        )
    n = len(found)
    chance = found[0][1]
    return BaselineEstimate(
        agent_type=chance.agent_type,
        model=chance.model,
        effort=chance.effort,
        estimate=True,
        sample=n,
        not_eligible=len(sample) - n,
        baseline=Estimate(
            p_solve=sum(one.p_solve for _, one in found) / n, cost_usd=sum(one.cost_usd for _, one in found) / n
        ),
        plans=Estimate(
            p_solve=sum(task.plan_p_solve for task, _ in found) / n,
            cost_usd=sum(task.plan_cost_usd for task, _ in found) / n,
        ),
    )


def _name(chance: Chance) -> str:
    return name_of(chance.agent_type, chance.model, chance.effort)


def _chance(candidates: Sequence[Chance], name: str) -> Chance | None:
    return next((one for one in candidates if _name(one) == name), None)
