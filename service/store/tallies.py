"""What reports add up: sums over decisions and outcomes of a span, made by the database, so that memory is bounded."""

import logging
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Float, Text, and_, case, cast, func, literal_column, select

from service.base.ids import first_id
from service.contract.decoding import DECODE_ERRORS
from service.store.database import Database
from service.store.schema import EXPLAINED, AnyRow, AnySelect, decisions, explanation_of, outcomes
from service.store.search import not_by_index

REPORT_SECONDS = 60.0
"""Patience with one sum: over 1,000,000 decisions SQLite takes some seconds (tests/load/page.py)."""

MAX_GROUPS = 20_000
"""Rows of one sum; agents, models and kinds come from catalogs, which have a few dozen."""

STRETCH = 6
"""Digits of an id that are one stretch of time in the indexes: 2 to the power of 24 milliseconds."""

SAMPLE_AT_ONCE = 100

_log = logging.getLogger(__name__)


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """From `since` up to but not including `until`."""

    since: datetime
    until: datetime


class DecisionSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over decisions with these values in common. What rows of an older version do not tell is left out of the
    sums, and `known` are those that do."""

    source: str
    agent_type: str
    model: str
    effort: str | None
    n: int
    known: int
    degraded: int
    first: int
    plan_p_solve: float
    plan_cost_usd: float
    classifying_usd: float
    compared: int
    agreed: int
    loss_usd: float


class OutcomeSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over outcomes with these values in common. `expected` is the sum of the chances that `promised` of them were
    given, of which `kept` solved their task; `priced` told what they cost."""

    agent_type: str
    model: str
    effort: str | None
    kind: str | None
    step: int | None
    chosen_by: str | None
    n: int
    solved: int
    priced: int
    cost_usd: float
    promised: int
    expected: float
    kept: int


class Tallies:
    """Every method raises StoreUnavailableError when the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_decisions(self, span: Span) -> list[DecisionSums]:
        """Sums over the decisions of the span, by who chose and what."""
        made = decisions.c
        own_plan = (made.failures == 0) & made.plan_p_solve.is_not(None)
        statement = self._summed(
            span,
            made.decision_id,
            (made.source, made.agent_type, made.model, made.effort),
            {
                "n": func.count(),
                "known": func.count(made.failures),
                "degraded": _number(made.degraded),
                "first": _number(own_plan),
                "plan_p_solve": _sum(case((own_plan, made.plan_p_solve))),
                "plan_cost_usd": _sum(case((own_plan, made.plan_cost_usd))),
                "classifying_usd": _sum(made.classifying_usd),
                "compared": func.count(made.agreed),
                "agreed": _number(made.agreed),
                "loss_usd": _sum(made.loss_usd),
            },
        )
        return [DecisionSums(**row._mapping) for row in await self._rows(statement)]  # noqa: SLF001 - the public name of SQLAlchemy's mapping has an underscore

    async def of_outcomes(self, span: Span) -> list[OutcomeSums]:
        """Sums over the outcomes recorded in the span, and not withdrawn, by all that reports tell apart."""
        told = outcomes.c
        statement = self._summed(
            span,
            told.outcome_id,
            (told.agent_type, told.model, told.effort, told.kind, told.step, told.chosen_by),
            {
                "n": func.count(),
                "solved": _number(told.solved),
                "priced": func.count(told.cost_usd),
                "cost_usd": _sum(told.cost_usd),
                "promised": func.count(told.p_solve),
                "expected": _sum(told.p_solve),
                "kept": _number(and_(told.p_solve.is_not(None), told.solved)),
            },
            told.withdrawn_at.is_(None),
        )
        return [OutcomeSums(**row._mapping) for row in await self._rows(statement)]  # noqa: SLF001 - as above

    async def forecasts(self, span: Span, *, total: int, wanted: int) -> "list[SampledForecast]":
        """What the forecast said of every eligible candidate, for some `wanted` of the `total` first decisions about a
        task in the span: drawn by the random end of their ids, the same each time."""
        first = [*self._within(span, decisions.c.decision_id), decisions.c.failures == 0]
        if total > wanted:
            first.append(func.substr(decisions.c.decision_id, 33) < f"{wanted * 0x10000 // total:04x}")
        ids = [
            row.decision_id for row in await self._rows(select(decisions.c.decision_id).where(*first).limit(2 * wanted))
        ]
        found: list[SampledForecast] = []
        columns = (
            decisions.c.decision_id,
            decisions.c.plan_p_solve,
            decisions.c.plan_cost_usd,
            *EXPLAINED,
        )
        for start in range(0, len(ids), SAMPLE_AT_ONCE):
            some = select(*columns).where(decisions.c.decision_id.in_(ids[start : start + SAMPLE_AT_ONCE]))
            found.extend(one for row in await self._rows(some) if (one := _sampled(row)) is not None)
        return found

    def _summed(
        self,
        span: Span,
        identifier: ColumnElement[str],
        keys: Sequence[ColumnElement[Any]],
        sums: dict[str, ColumnElement[Any]],
        *conditions: ColumnElement[bool],
    ) -> AnySelect:
        """First by stretches of time, in the order of the index that has all of it, then those stretches together."""
        stretch = _stretch(identifier)
        labelled = [value.label(name) for name, value in sums.items()]
        parts = (
            select(*keys, *labelled)
            .where(*self._within(span, identifier), *conditions)
            .group_by(stretch, *keys)
            .subquery()
        )
        names = [parts.c[key.key] for key in keys if key.key]
        totals = [cast(func.sum(parts.c[name]), value.type).label(name) for name, value in sums.items()]
        return select(*names, *totals).group_by(*names).limit(MAX_GROUPS)

    def _within(self, span: Span, identifier: ColumnElement[str]) -> list[ColumnElement[bool]]:
        """By the ids, whose first twelve digits are their time: first by the stretches that the index begins with."""
        since, until = first_id(span.since), first_id(span.until)
        exact = identifier if self._database.backend == "postgresql" else not_by_index(identifier)
        stretch = _stretch(identifier)
        return [stretch >= since[:STRETCH], stretch <= until[:STRETCH], exact >= since, exact < until]

    async def _rows(self, statement: AnySelect) -> list[AnyRow]:
        async def read(connection: Any) -> list[AnyRow]:  # noqa: ANN401 - AsyncConnection, whose rows are untyped
            return list(await connection.execute(statement))

        return await self._database.run(read, mode="read", limit_seconds=REPORT_SECONDS)


class Chance(msgspec.Struct, frozen=True):
    """What the forecast said of one candidate for one task."""

    agent_type: str
    model: str
    p_solve: float
    cost_usd: float
    effort: str | None = None


class SampledForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision's plan promised as a whole, and what the forecast said of every candidate."""

    plan_p_solve: float
    plan_cost_usd: float
    candidates: Sequence[Chance]


class _Forecast(msgspec.Struct, frozen=True):
    candidates: Sequence[Chance] = ()


class _Explanation(msgspec.Struct, frozen=True):
    forecast: _Forecast | None = None


_EXPLANATION = msgspec.json.Decoder(_Explanation)


def _stretch(identifier: ColumnElement[str]) -> ColumnElement[str]:
    """As the index has it, letter by letter: no database finds it by an expression with parameters."""
    return literal_column(f"substr({identifier.key}, 1, {STRETCH})", Text)


def _sum(value: ColumnElement[Any]) -> ColumnElement[float]:
    return func.coalesce(func.sum(value), cast(0.0, Float))


def _number(value: ColumnElement[Any]) -> ColumnElement[int]:
    """How often it is true."""
    return func.count(case((value, 1)))


def _sampled(row: AnyRow) -> SampledForecast | None:
    """None where it is damaged or tells nothing of candidates."""
    try:
        forecast = _EXPLANATION.decode(explanation_of(row)).forecast
    except (*DECODE_ERRORS, zlib.error):
        _log.warning("the explanation of decision %s cannot be read and is left out", row.decision_id)
        return None
    if forecast is None or not forecast.candidates or row.plan_p_solve is None or row.plan_cost_usd is None:
        return None
    return SampledForecast(
        plan_p_solve=row.plan_p_solve, plan_cost_usd=row.plan_cost_usd, candidates=forecast.candidates
    )
