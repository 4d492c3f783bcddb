"""What reports add up: sums over decisions and outcomes of a span, made by the database, so that memory is bounded."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Float, and_, case, cast, func, select

from service.base.ids import first_id
from service.contract.decoding import DECODE_ERRORS
from service.store.database import Database
from service.store.schema import AnyRow, AnySelect, decisions, outcomes

REPORT_SECONDS = 60.0
"""Patience with one sum: over 1,000,000 decisions SQLite takes some seconds (tests/load/page.py)."""

MAX_GROUPS = 500
"""Rows of one table of a report; agents, models and kinds come from catalogs, which have a few dozen."""

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
    variance: float
    kept: int


class Tallies:
    """Every method raises StoreUnavailableError when the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_decisions(self, span: Span) -> list[DecisionSums]:
        """Sums over the decisions of the span, by who chose and what."""
        made = decisions.c
        own_plan = (made.failures == 0) & made.plan_p_solve.is_not(None)
        keys = (made.source, made.agent_type, made.model, made.effort)
        statement = (
            select(
                *keys,
                func.count().label("n"),
                func.count(made.failures).label("known"),
                _number(made.degraded).label("degraded"),
                _number(own_plan).label("first"),
                _sum(case((own_plan, made.plan_p_solve))).label("plan_p_solve"),
                _sum(case((own_plan, made.plan_cost_usd))).label("plan_cost_usd"),
                _sum(made.classifying_usd).label("classifying_usd"),
                func.count(made.agreed).label("compared"),
                _number(made.agreed).label("agreed"),
                _sum(made.loss_usd).label("loss_usd"),
            )
            .where(*within(span))
            .group_by(*keys)
            .limit(MAX_GROUPS)
        )
        return [DecisionSums(**row._mapping) for row in await self._rows(statement)]  # noqa: SLF001 - the public name of SQLAlchemy's mapping has an underscore

    async def of_outcomes(self, span: Span) -> list[OutcomeSums]:
        """Sums over the outcomes recorded in the span, and not withdrawn, by all that reports tell apart."""
        told = outcomes.c
        keys = (told.agent_type, told.model, told.effort, told.kind, told.step, told.chosen_by)
        promised = told.p_solve.is_not(None)
        statement = (
            select(
                *keys,
                func.count().label("n"),
                _number(told.solved).label("solved"),
                func.count(told.cost_usd).label("priced"),
                _sum(told.cost_usd).label("cost_usd"),
                func.count(told.p_solve).label("promised"),
                _sum(told.p_solve).label("expected"),
                _sum(told.p_solve * (1.0 - told.p_solve)).label("variance"),
                _number(and_(promised, told.solved)).label("kept"),
            )
            .where(
                told.recorded_at >= span.since,
                told.recorded_at < span.until,
                told.withdrawn_at.is_(None),
            )
            .group_by(*keys)
            .limit(MAX_GROUPS * 40)
        )
        return [OutcomeSums(**row._mapping) for row in await self._rows(statement)]  # noqa: SLF001 - as above

    async def forecasts(self, span: Span, *, total: int, wanted: int) -> "list[SampledForecast]":
        """What the forecast said of every eligible candidate, for some `wanted` of the `total` first decisions about a
        task in the span: drawn by the random end of their ids, the same each time."""
        first = [*within(span), decisions.c.failures == 0]
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
            decisions.c.explanation,
        )
        for start in range(0, len(ids), SAMPLE_AT_ONCE):
            some = select(*columns).where(decisions.c.decision_id.in_(ids[start : start + SAMPLE_AT_ONCE]))
            found.extend(one for row in await self._rows(some) if (one := _sampled(row)) is not None)
        return found

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


def within(span: Span) -> list[ColumnElement[bool]]:
    """By the decisions' ids, whose first twelve digits are their time: the primary key finds them."""
    return [decisions.c.decision_id >= first_id(span.since), decisions.c.decision_id < first_id(span.until)]


def _sum(value: ColumnElement[Any]) -> ColumnElement[float]:
    return func.coalesce(func.sum(value), cast(0.0, Float))


def _number(value: ColumnElement[Any]) -> ColumnElement[int]:
    """How often it is true."""
    return func.count(case((value, 1)))


def _sampled(row: AnyRow) -> SampledForecast | None:
    """None where it is damaged or tells nothing of candidates."""
    try:
        forecast = _EXPLANATION.decode(row.explanation).forecast
    except DECODE_ERRORS:
        _log.warning("the explanation of decision %s cannot be read and is left out", row.decision_id)
        return None
    if forecast is None or not forecast.candidates or row.plan_p_solve is None or row.plan_cost_usd is None:
        return None
    return SampledForecast(
        plan_p_solve=row.plan_p_solve, plan_cost_usd=row.plan_cost_usd, candidates=forecast.candidates
    )
