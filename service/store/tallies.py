"""What reports add up: sums over decisions and outcomes of a span, made by the database, so that memory is bounded."""

import logging
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache

import msgspec
from sqlalchemy import func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.ids import first_id
from service.contract.decoding import DECODE_ERRORS
from service.store.address import Backend
from service.store.database import Database
from service.store.schema import EXPLAINED, AnyRow, AnySelect, decisions, explanation_of
from service.store.search import not_by_index
from service.store.stretches import FINEST, Gap, gaps
from service.store.sums import (
    ADVISED_DECISIONS,
    ADVISED_OUTCOMES,
    DECISIONS,
    OUTCOMES,
    SUMMED,
    Summed,
    bounds_of,
    kept_within,
    stretch_of,
)

REPORT_SECONDS = 60.0
"""Patience with one sum: over 1,000,000 decisions SQLite takes some seconds (tests/load/page.py)."""

MAX_GROUPS = 20_000
"""Rows of one sum; agents, models and kinds come from catalogs, which have a few dozen."""

MOST_GAPS = 40
"""Between kept sums, in one statement. What lies before the newest of them is then summed from rows."""

STATEMENTS = 64
"""That are kept; most reports have two or three gaps."""

AS_OF_ONE_MOMENT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
"""Sums that are dropped while they are being read would else be missed; SQLite reads like that anyhow."""

PLANNED_ANEW = text("SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)")
"""A plan for spans of any length, which PostgreSQL makes once a statement was seen five times, reads every row of a
long one; to compile a statement takes longer than these take."""

SAMPLE_AT_ONCE = 250
"""Explanations that are held at once: a long task's has a hundred kilobytes."""

DRAWN = 0x0800
"""Of 65,536 ends of an id: these have an index of their own."""

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


class AdvisedDecisionSums(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions that this classifier was asked about and did not make: how many tell whether the forecast alone would
    have chosen the same as it, and how many say so."""

    advised_by: str
    compared: int
    agreed: int


class AdvisedOutcomeSums(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of decisions that this classifier was asked about, whoever made them, by who wanted what was tried."""

    advised_by: str
    chosen_by: str | None
    n: int
    solved: int


class Tallies:
    """Every method raises StoreUnavailableError when the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_decisions(self, span: Span) -> list[DecisionSums]:
        """Sums over the decisions of the span, by who chose and what."""
        (rows,) = await self._summed(span, DECISIONS)
        return [DecisionSums(**row._mapping) for row in rows]  # noqa: SLF001 - the public name of SQLAlchemy's mapping has an underscore

    async def of_outcomes(self, span: Span) -> list[OutcomeSums]:
        """Sums over the outcomes recorded in the span, and not withdrawn, by all that reports tell apart."""
        (rows,) = await self._summed(span, OUTCOMES)
        return [OutcomeSums(**row._mapping) for row in rows]  # noqa: SLF001 - as above

    async def of_advised(self, span: Span) -> tuple[list[AdvisedDecisionSums], list[AdvisedOutcomeSums]]:
        """Sums by which classifier was heard: over the decisions of the span in which it did not choose, and over the
        outcomes recorded in the span and not withdrawn."""
        made, told = await self._summed(span, ADVISED_DECISIONS, ADVISED_OUTCOMES)
        decided = [AdvisedDecisionSums(**row._mapping) for row in made]  # noqa: SLF001 - as above
        return decided, [AdvisedOutcomeSums(**row._mapping) for row in told]  # noqa: SLF001 - as above

    async def forecasts(self, span: Span, *, total: int, wanted: int) -> "list[SampledForecast]":
        """What the forecast said of every eligible candidate, for some `wanted` of the `total` first decisions about a
        task in the span: drawn by the random end of their ids, the same each time."""
        drawn = _drawn(span, self._database.backend, share=wanted / max(total, 1))
        columns = (decisions.c.decision_id, decisions.c.plan_p_solve, decisions.c.plan_cost_usd, *EXPLAINED)

        async def read(connection: AsyncConnection) -> list[SampledForecast]:
            if self._database.backend == "postgresql":
                await connection.execute(PLANNED_ANEW)
            ids = list((await connection.execute(drawn.limit(2 * wanted))).scalars())
            found: list[SampledForecast] = []
            for start in range(0, len(ids), SAMPLE_AT_ONCE):
                some = select(*columns).where(decisions.c.decision_id.in_(ids[start : start + SAMPLE_AT_ONCE]))
                rows = await connection.execute(some)
                found += [one for row in rows if (one := _sampled(row)) is not None]
            return found

        return await self._database.run(read, mode="read", limit_seconds=REPORT_SECONDS)

    async def _summed(self, span: Span, *wanted: Summed) -> list[list[AnyRow]]:
        """Of whole stretches the sums that are kept, of all else those of the rows, as of one moment."""
        backend = self._database.backend
        ids = {"since": first_id(span.since), "until": first_id(span.until)}

        async def read(connection: AsyncConnection) -> list[list[AnyRow]]:
            if backend == "postgresql":
                await connection.execute(AS_OF_ONE_MOMENT)
                await connection.execute(PLANNED_ANEW)
            return [await add_up(connection, summed) for summed in wanted]

        async def add_up(connection: AsyncConnection, summed: Summed) -> list[AnyRow]:
            kept, left = ids, await _left(connection, summed, ids)
            if len(left) > MOST_GAPS:
                kept = {**ids, "since": left[-MOST_GAPS].until}
                left = [Gap(ids["since"], kept["since"]), *await _left(connection, summed, kept)]
            return list(await connection.execute(_sums_of(summed, len(left), backend), {**kept, **bounds_of(left)}))

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


@lru_cache(STATEMENTS)
def _sums_of(summed: Summed, gaps: int, backend: Backend) -> AnySelect:
    """Of what is kept and of the rows in so many gaps. To make the statement takes as long as the database does."""
    kept = summed.of_kept(summed.kept.c.stretch.in_(kept_within(summed)))
    parts = union_all(kept, *(summed.of_rows(number, backend) for number in range(gaps))).subquery()
    return summed.together(parts).limit(MAX_GROUPS)


_KEPT_WITHIN = {summed.name: kept_within(summed) for summed in SUMMED}


async def _left(connection: AsyncConnection, summed: Summed, ids: Mapping[str, str]) -> list[Gap]:
    """What has to be summed from rows."""
    found = await connection.execute(_KEPT_WITHIN[summed.name], ids)
    return gaps(ids["since"], ids["until"], sorted(found.scalars()))


def _drawn(span: Span, backend: Backend, *, share: float) -> AnySelect:
    """The first decisions about a task in the span, or about that share of them, by the random end of their ids."""
    identifier = decisions.c.decision_id
    since, until = first_id(span.since), first_id(span.until)
    ids = select(identifier).where(identifier < until)
    few = func.substr(identifier, 33) < f"{int(share * 0x10000):04x}"
    if int(share * 0x10000) <= DRAWN:
        by_index = text(f"failures = 0 AND substr(decision_id, 33) < '{DRAWN:04x}'")  # as the index has it
        return ids.where(identifier >= since, by_index, few)
    exact = identifier if backend == "postgresql" else not_by_index(identifier)
    stretch = stretch_of(identifier)
    within = (stretch >= since[:FINEST], stretch <= until[:FINEST], exact >= since, decisions.c.failures == 0)
    return ids.where(*within, *([few] if share < 1 else []))


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
