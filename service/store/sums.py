"""What reports add up of decisions and of outcomes, by all that they tell apart, from rows and from sums kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    FromClause,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    select,
)

from service.store.address import Backend
from service.store.schema import (
    AnySelect,
    advised_decision_sums,
    advised_outcome_sums,
    decision_sums,
    decisions,
    outcome_sums,
    outcomes,
    stretches,
)
from service.store.search import not_by_index
from service.store.stretches import FINEST, Gap, last_of

BOUNDS = ("first", "last", "since", "until")
"""Of a gap: its first and last stretch, and its ids."""


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """Rows of one table: their id, what they are told apart by, what is added up, and which are left out. `name` is
    that of the triggers, and of the stretches whose sums are kept."""

    name: str
    identifier: ColumnElement[str]
    keys: tuple[ColumnElement[Any], ...]
    sums: dict[str, ColumnElement[Any]]
    kept: Table
    standing: tuple[ColumnElement[bool], ...] = ()

    @property
    def columns(self) -> list[str]:
        """Of its sums."""
        return [*(key.key for key in self.keys if key.key), *self.sums]

    def of_rows(self, number: int, backend: Backend) -> AnySelect:
        """The sums of what was recorded in the gap of that number (`bounds_of`), stretch by stretch: in the order of
        the index that has it all."""
        first, last, since, until = (bindparam(f"{name}_{number}", type_=Text) for name in BOUNDS)
        stretch = stretch_of(self.identifier)
        labelled = [value.label(name) for name, value in self.sums.items()]
        # By the stretches that the index begins with; more exactly by the ids, for which SQLite would take another one.
        exact = self.identifier if backend == "postgresql" else not_by_index(self.identifier)
        within = (stretch >= first, stretch <= last, exact >= since, exact < until)
        return select(*self.keys, *labelled).where(*within, *self.standing).group_by(stretch, *self.keys)

    def of_stretch(self, name: str) -> AnySelect:
        """The sums of what was recorded in one of the finest stretches."""
        labelled = [value.label(name) for name, value in self.sums.items()]
        within = stretch_of(self.identifier) == name
        return select(*self.keys, *labelled).where(within, *self.standing).group_by(*self.keys)

    def of_kept(self, *conditions: ColumnElement[bool]) -> AnySelect:
        """Sums that are kept, as they stand."""
        return select(*(self.kept.c[name] for name in self.columns)).where(*conditions)

    def together(self, parts: Any) -> AnySelect:  # noqa: ANN401 - a subquery, whose columns are untyped
        """The sums of sums."""
        names = [parts.c[key.key] for key in self.keys if key.key]
        totals = [cast(func.sum(parts.c[name]), value.type).label(name) for name, value in self.sums.items()]
        return select(*names, *totals).group_by(*names)


def stretch_of(identifier: ColumnElement[str]) -> ColumnElement[str]:
    """As the index has it, letter by letter: no database finds it by an expression with parameters."""
    return literal_column(f"substr({identifier.key}, 1, {FINEST})", Text)


def bounds_of(gaps: Sequence[Gap]) -> dict[str, str]:
    """The parameters of `of_rows` for gaps that are numbered in this order."""
    bounds = ((gap.since[:FINEST], last_of(gap), gap.since, gap.until) for gap in gaps)
    return {f"{name}_{n}": value for n, values in enumerate(bounds) for name, value in zip(BOUNDS, values, strict=True)}


def kept_within(summed: Summed) -> AnySelect:
    """The stretches that lie within the ids from `since` up to `until` and whose sums are kept, but for those that are
    part of one as well."""
    own, whole = stretches.alias(), stretches.alias()
    since, until = bindparam("since", type_=Text), bindparam("until", type_=Text)

    def kept(table: FromClause) -> ColumnElement[bool]:
        name = table.c.stretch
        within = (name >= since) & (name < func.substr(until, 1, func.length(name)))
        return (table.c.of_table == summed.name) & table.c.kept_at.is_not(None) & within

    parent = whole.c.stretch == func.substr(own.c.stretch, 1, func.length(own.c.stretch) - 1)
    return select(own.c.stretch).where(kept(own), ~exists().where(kept(whole), parent))


def _sum(value: ColumnElement[Any]) -> ColumnElement[float]:
    return func.coalesce(func.sum(value), cast(0.0, Float))


def _number(value: ColumnElement[Any]) -> ColumnElement[int]:
    """How often it is true."""
    return func.count(case((value, 1)))


def _of_decisions() -> Summed:
    made = decisions.c
    own_plan = (made.failures == 0) & made.plan_p_solve.is_not(None)
    return Summed(
        name="decisions",
        identifier=made.decision_id,
        keys=(made.source, made.agent_type, made.model, made.effort),
        sums={
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
        kept=decision_sums,
    )


def _of_outcomes() -> Summed:
    told = outcomes.c
    return Summed(
        name="outcomes",
        identifier=told.outcome_id,
        keys=(told.agent_type, told.model, told.effort, told.kind, told.step, told.chosen_by),
        sums={
            "n": func.count(),
            "solved": _number(told.solved),
            "priced": func.count(told.cost_usd),
            "cost_usd": _sum(told.cost_usd),
            "promised": func.count(told.p_solve),
            "expected": _sum(told.p_solve),
            "kept": _number(and_(told.p_solve.is_not(None), told.solved)),
        },
        kept=outcome_sums,
        standing=(told.withdrawn_at.is_(None),),
    )


def _of_advised_decisions() -> Summed:
    """Those that a classifier was asked about and did not choose: who did says `source` of the others."""
    made = decisions.c
    return Summed(
        name="advised_decisions",
        identifier=made.decision_id,
        keys=(made.advised_by,),
        sums={"compared": func.count(made.agreed), "agreed": _number(made.agreed)},
        kept=advised_decision_sums,
        standing=(made.advised_by != made.source,),
    )


def _of_advised_outcomes() -> Summed:
    told = outcomes.c
    return Summed(
        name="advised_outcomes",
        identifier=told.outcome_id,
        keys=(told.advised_by, told.chosen_by),
        sums={"n": func.count(), "solved": _number(told.solved)},
        kept=advised_outcome_sums,
        standing=(told.advised_by.is_not(None), told.withdrawn_at.is_(None)),
    )


DECISIONS = _of_decisions()
OUTCOMES = _of_outcomes()
ADVISED_DECISIONS = _of_advised_decisions()
ADVISED_OUTCOMES = _of_advised_outcomes()
SUMMED: Sequence[Summed] = (DECISIONS, OUTCOMES, ADVISED_DECISIONS, ADVISED_OUTCOMES)
