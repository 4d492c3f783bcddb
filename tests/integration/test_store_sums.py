"""Sums that are kept of stretches of time: a report says the same with them as without, whatever becomes of rows."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Executable, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.ids import first_id, uuid7
from service.store import Store, summing, tallies
from service.store.copying import copy_all
from service.store.migrations import MIGRATIONS, migrate
from service.store.schema import decisions, outcomes, stretches
from service.store.stretches import Gap
from service.store.summing import FORGOTTEN, SETTLED
from service.store.sums import ADVISED_DECISIONS, DECISIONS, OUTCOMES, SUMMED, Summed, bounds_of
from service.store.tallies import AdvisedDecisionSums, AdvisedOutcomeSums, DecisionSums, OutcomeSums, Span
from tests.support.store_fixtures import OpenStore

ADVISED = "advised_"
NOW = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)
STRETCH = timedelta(milliseconds=1 << 24)

MODELS = ("m", "n", "mödel 'x\"", "")
EFFORTS = (None, "high", "lo\nw")
ADVISERS = (None, "local_model", "cli")


def a_moment(chance: random.Random, days: float) -> datetime:
    """Within the last so many days."""
    return NOW - timedelta(days=chance.uniform(0, days))


def id_at(moment: datetime) -> str:
    """An id made at that moment."""
    return uuid7(now_ns=lambda: int(moment.timestamp() * 1e9))


def decision_rows(chance: random.Random, count: int, days: float) -> list[dict[str, Any]]:
    """Of all kinds, some without what an older version did not tell."""
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        at = a_moment(chance, days)
        old = chance.random() < 0.1
        facts = {
            "failures": chance.choice([0, 0, 1]),
            "plan_p_solve": chance.random(),
            "plan_cost_usd": chance.random(),
            "classifying_usd": chance.random(),
            "agreed": chance.choice([None, True, False]),
            "loss_usd": chance.random(),
            "advised_by": chance.choice(ADVISERS),
        }
        rows.append(
            {
                "decision_id": id_at(at),
                "decided_at": at,
                "agent_type": chance.choice(["claude", "codex"]),
                "model": chance.choice(MODELS),
                "source": chance.choice(["forecast", "cli", "a source of later"]),
                "degraded": chance.random() < 0.2,
                "body": "{}",
                "explanation": "{}",
                "effort": chance.choice(EFFORTS),
                **(dict.fromkeys(facts) if old else facts),
            }
        )
    return rows


def decision_row(chance: random.Random, at: datetime) -> dict[str, Any]:
    """One that was made at that moment."""
    return {**decision_rows(chance, 1, 1)[0], "decision_id": id_at(at), "decided_at": at}


def outcome_rows(chance: random.Random, count: int, days: float, seq: int) -> list[dict[str, Any]]:
    """Likewise; numbered from `seq` on."""
    rows: list[dict[str, Any]] = []
    for number in range(seq, seq + count):
        at = a_moment(chance, days)
        told = chance.random() < 0.7
        rows.append(
            {
                "seq": number,
                "change": number,
                "outcome_id": id_at(at),
                "recorded_at": at,
                "attempt": 1,
                "agent_type": chance.choice(["claude", "codex"]),
                "model": chance.choice(MODELS),
                "solved": chance.random() < 0.5,
                "body": "{}",
                "effort": chance.choice(EFFORTS),
                "kind": chance.choice([None, "issue", "no such kind"]),
                "step": chance.choice([1, 2]) if told else None,
                "p_solve": chance.random() if told else None,
                "cost_usd": chance.choice([None, chance.random()]),
                "chosen_by": chance.choice([None, "both", "classifier"]),
                "advised_by": chance.choice(ADVISERS),
            }
        )
    return rows


def as_before(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a version wrote them that did not keep which classifier was heard."""
    return [{name: value for name, value in row.items() if name != "advised_by"} for row in rows]


async def change(store: Store, statement: Executable, rows: Sequence[dict[str, Any]] = ()) -> None:
    """Past the store's own methods, as a replica of another version or a person would."""

    async def write(connection: AsyncConnection) -> None:
        await (connection.execute(statement, list(rows)) if rows else connection.execute(statement))

    await store._database.run(write, mode="write")


async def sum_all(store: Store) -> int:
    """Until nothing more is to be summed; how often that took."""
    rounds = 0
    while await store.summing.round():
        rounds += 1
        assert rounds < 200
    return rounds


Figures = dict[tuple[Any, ...], tuple[float, ...]]


async def expected(store: Store, span: Span) -> list[Figures]:
    """Added up here, row by row: decisions, outcomes, and of either those that a classifier was heard about."""
    made: Figures = {}
    advised: Figures = {}
    for row in await store._database.rows(select(decisions)):
        if first_id(span.since) <= row.decision_id < first_id(span.until):
            first = row.failures == 0 and row.plan_p_solve is not None
            figures: tuple[Any, ...] = (
                1,
                row.failures is not None,
                row.degraded,
                first,
                row.plan_p_solve if first else 0,
                row.plan_cost_usd if first else 0,
                row.classifying_usd or 0,
                row.agreed is not None,
                bool(row.agreed),
                row.loss_usd or 0,
            )
            _add(made, (row.source, row.agent_type, row.model, row.effort), figures)
            if row.advised_by not in (None, row.source):
                _add(advised, (row.advised_by,), (row.agreed is not None, bool(row.agreed)))
    told: Figures = {}
    advised_told: Figures = {}
    for row in await store._database.rows(select(outcomes)):
        if first_id(span.since) <= row.outcome_id < first_id(span.until) and row.withdrawn_at is None:
            promised = row.p_solve is not None
            figures = (
                1,
                row.solved,
                row.cost_usd is not None,
                row.cost_usd or 0,
                promised,
                row.p_solve or 0,
                promised and row.solved,
            )
            _add(told, (row.agent_type, row.model, row.effort, row.kind, row.step, row.chosen_by), figures)
            if row.advised_by is not None:
                _add(advised_told, (row.advised_by, row.chosen_by), (1, row.solved))
    return [made, told, advised, advised_told]


def _add(sums: Figures, key: tuple[Any, ...], figures: tuple[Any, ...]) -> None:
    sums[key] = tuple(a + float(b) for a, b in zip(sums.get(key, (0.0,) * len(figures)), figures, strict=True))


AnySums = DecisionSums | OutcomeSums | AdvisedDecisionSums | AdvisedOutcomeSums


def figures_of(found: Sequence[AnySums], keys: int) -> Figures:
    """In the form of `expected`."""
    rows = [tuple(getattr(one, name) for name in one.__struct_fields__) for one in found]
    assert len({row[:keys] for row in rows}) == len(rows)
    return {row[:keys]: row[keys:] for row in rows}


async def check(store: Store, span: Span) -> None:
    """The sums of the span are those of its rows."""
    advised, advised_told = await store.tallies.of_advised(span)
    found = [
        figures_of(await store.tallies.of_decisions(span), 4),
        figures_of(await store.tallies.of_outcomes(span), 6),
        figures_of(advised, 1),
        figures_of(advised_told, 2),
    ]
    assert [_rounded(one) for one in found] == [_rounded(one) for one in await expected(store, span)]


def _rounded(found: Figures) -> Figures:
    """Sums of sums are added up in another order."""
    return {key: tuple(round(float(figure), 9) for figure in figures) for key, figures in found.items()}


async def kept(store: Store, *, advised: bool = False) -> dict[tuple[str, int], int]:
    """How many stretches are kept, by table and length of the name: of all rows, or of those with an adviser."""
    found: dict[tuple[str, int], int] = defaultdict(int)
    for row in await store._database.rows(select(stretches.c.of_table, stretches.c.stretch, stretches.c.kept_at)):
        if row.kept_at is not None and advised == row.of_table.startswith(ADVISED):
            found[row.of_table.removeprefix(ADVISED), len(row.stretch)] += 1
    return dict(found)


class Happenings:
    """What becomes of the rows of a store, drawn at random."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self._store = store
        self._chance = chance

    async def sum_up(self) -> None:
        """Everything that can be."""
        await sum_all(self._store)

    async def come(self, count: int = 5) -> None:
        """More rows, of now or of any time."""
        days = self._chance.choice([0.2, 6]) if count < 100 else 6
        await change(self._store, insert(decisions), decision_rows(self._chance, count, days))
        seq = await self._store.outcomes.newest_change() + 1
        await change(self._store, insert(outcomes), outcome_rows(self._chance, count, days, seq))

    async def withdraw(self) -> None:
        """Some outcomes, as a caller does."""
        rows = await self._store._database.rows(select(outcomes.c.outcome_id))
        for row in rows[:: self._chance.randrange(5, 30)]:
            await self._store.outcomes.withdraw(row.outcome_id)

    async def prune(self) -> None:
        """The oldest decisions."""
        await self._store.pruner.by_age(now=NOW, keep_days=self._chance.uniform(3, 6))

    async def correct(self) -> None:
        """Outcomes get other figures."""
        some = (outcomes.c.model == self._chance.choice(MODELS)) & (outcomes.c.seq % 7 == 0)
        await change(self._store, update(outcomes).where(some).values(solved=True, cost_usd=self._chance.random()))

    async def move(self) -> None:
        """Decisions get other ids."""
        for seen in await self._store._database.rows(select(decisions.c.decision_id).limit(3)):
            same = decisions.c.decision_id == seen.decision_id
            other = id_at(a_moment(self._chance, 6))
            await change(self._store, update(decisions).where(same).values(decision_id=other))

    async def remove(self) -> None:
        """Outcomes are deleted by hand."""
        await change(self._store, delete(outcomes).where(outcomes.c.seq % self._chance.randrange(5, 40) == 0))


@pytest.mark.parametrize("seed", range(2))
async def test_sums_are_those_of_the_rows_whatever_happens(store_url: str, open_store: OpenStore, seed: int) -> None:
    """Rows come late, are withdrawn, changed, moved, pruned and deleted, and sums are kept in between: of any span a
    report finds what the rows say."""
    chance = random.Random(seed)
    store = await open_store(store_url, clock=lambda: NOW)
    it = Happenings(store, chance)
    await it.come(120)
    await it.sum_up()
    others = [it.come, it.withdraw, it.prune, it.correct, it.move, it.remove]
    for happens in (*others, it.sum_up, *chance.choices(others, k=4)):
        await happens()
        since, until = sorted([a_moment(chance, 7), a_moment(chance, 7)])
        await check(store, Span(since=since, until=until))
        await check(store, Span(since=NOW - timedelta(days=30), until=NOW + timedelta(seconds=1)))
        if chance.random() < 0.5:
            await store.summing.round()
    await it.sum_up()
    assert (await kept(store))["outcomes", 5] >= 1


async def test_long_spans_are_added_up_of_long_stretches(open_store: OpenStore) -> None:
    """Sixteen stretches are one, and sixteen of these; all of them go with one row that comes late."""
    chance = random.Random(5)
    store = await open_store("sqlite://", clock=lambda: NOW)
    await change(store, insert(decisions), decision_rows(chance, 300, 104))
    await sum_all(store)
    lengths = await kept(store)
    assert lengths["decisions", 6] == pytest.approx(104 * 86400 / 16777.216, abs=6)
    assert lengths["decisions", 5] == pytest.approx(lengths["decisions", 6] / 16, abs=2)
    assert lengths["decisions", 4] == 1
    assert await kept(store, advised=True) == lengths
    whole = Span(since=NOW - timedelta(days=120), until=NOW + timedelta(seconds=1))
    await check(store, whole)
    (long,) = await store._database.rows(text("SELECT DISTINCT stretch FROM stretches WHERE length(stretch) = 4"))
    at = datetime.fromtimestamp((int(long.stretch, 16) << 32) / 1000 + 86400, UTC)
    late = decision_row(chance, at)
    await change(store, insert(decisions), [late])
    left = {("decisions", 6): lengths["decisions", 6] - 1, ("decisions", 5): lengths["decisions", 5] - 1}
    assert await kept(store) == await kept(store, advised=True) == left
    await check(store, whole)
    await sum_all(store)
    assert await kept(store) == await kept(store, advised=True) == lengths
    await check(store, whole)


async def test_only_what_has_ended_a_while_ago_is_summed(store_url: str, open_store: OpenStore) -> None:
    """The stretch under way is not, nor one that ended a moment ago; empty ones are: nobody looks for them again."""
    begin = datetime.fromtimestamp((int(first_id(NOW)[:6], 16) << 24) / 1000, UTC)
    now = [begin + SETTLED - timedelta(seconds=1)]
    store = await open_store(store_url, clock=lambda: now[0])
    at = begin - 3 * STRETCH
    rows = decision_rows(random.Random(1), 2, 1)
    for row, moment in zip(rows, (at, begin), strict=True):
        row.update(decision_id=id_at(moment), decided_at=moment)
    await change(store, insert(decisions), rows)
    assert (await sum_all(store), await kept(store)) == (1, {("decisions", 6): 2})
    now[0] += timedelta(seconds=1)
    assert (await sum_all(store), await kept(store)) == (1, {("decisions", 6): 3})
    assert await kept(store, advised=True) == await kept(store)


@pytest.mark.parametrize("summed_then", [DECISIONS, ADVISED_DECISIONS], ids=lambda one: one.name)
async def test_a_row_that_comes_while_its_stretch_is_summed_counts(
    store_url: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, summed_then: Summed
) -> None:
    """Between reading and keeping: then nothing is kept, and the next round reads anew."""
    chance = random.Random(2)
    store = await open_store(store_url, clock=lambda: NOW)
    await change(store, insert(decisions), decision_rows(chance, 30, 1))
    at = NOW - timedelta(days=0.7)
    late = decision_row(chance, at)
    other = await open_store(store_url, clock=lambda: NOW)
    read = summing._read

    async def read_slowly(summed: Summed, name: str, connection: AsyncConnection) -> list[dict[str, Any]] | None:
        sums = await read(summed, name, connection)
        if summed is summed_then and name == late["decision_id"][:6]:
            await change(other, insert(decisions), [late])
        return sums

    monkeypatch.setattr(summing, "_read", read_slowly)
    await store.summing.round()
    monkeypatch.undo()
    same = stretches.c.of_table == summed_then.name
    names = [row.stretch for row in await store._database.rows(select(stretches.c.stretch).where(same))]
    assert names
    assert late["decision_id"][:6] not in names
    span = Span(since=NOW - timedelta(days=2), until=NOW)
    await check(store, span)
    assert await sum_all(store) == 1
    await check(store, span)


async def test_a_transaction_that_began_before_is_waited_for(postgres_database: str, open_store: OpenStore) -> None:
    """Whoever wrote a row before the stretch was named, and has not committed it yet, could not see the name: nothing
    is read before that ends. The defect it catches: sums without that row, kept for good."""
    chance = random.Random(3)
    store = await open_store(postgres_database, clock=lambda: NOW)
    await change(store, insert(decisions), decision_rows(chance, 30, 1))
    written, commit = asyncio.Event(), asyncio.Event()
    at = NOW - timedelta(days=0.7)
    late = decision_row(chance, at)

    async def slowly(connection: AsyncConnection) -> None:
        await connection.execute(insert(decisions), [late])
        written.set()
        await commit.wait()

    writing = asyncio.create_task(store._database.run(slowly, mode="write"))
    await written.wait()
    under_way = asyncio.create_task(store.summing.round())
    await asyncio.sleep(0.6)
    assert not under_way.done()
    assert await kept(store) == {}
    commit.set()
    await asyncio.gather(writing, under_way)
    assert (await kept(store))["decisions", 6] >= 4
    await check(store, Span(since=NOW - timedelta(days=2), until=NOW))


async def test_nobody_waits_for_a_transaction_that_stays_open(postgres_database: str, open_store: OpenStore) -> None:
    """Someone has deleted a row while its stretch is being summed, and does not commit: the others are kept, and the
    store works on."""
    chance = random.Random(14)
    store = await open_store(postgres_database, clock=lambda: NOW)
    await change(store, insert(decisions), decision_rows(chance, 60, 1))
    names = await store.summing._fresh(DECISIONS)
    await store.summing._begin(DECISIONS, names, "me")
    deleted, commit = asyncio.Event(), asyncio.Event()

    async def hold(connection: AsyncConnection) -> None:
        await connection.execute(delete(decisions).where(decisions.c.decision_id.startswith(names[1])))
        deleted.set()
        await commit.wait()

    holding = asyncio.create_task(store._database.run(hold, mode="write"))
    await deleted.wait()
    for name in names[:2]:
        keep = partial(store.summing._keep, DECISIONS, name, "me", await _sums(store, name))
        await store._database.run(keep, mode="write")
    assert await kept(store) == {("decisions", 6): 1}
    commit.set()
    await holding
    assert store.status.recording
    await check(store, Span(since=NOW - timedelta(days=2), until=NOW))


async def test_two_replicas_sum_each_stretch_once(store_url: str, open_store: OpenStore) -> None:
    """Both at the same time, while rows come late: nothing is counted twice, nothing is left out."""
    chance = random.Random(4)
    stores = [await open_store(store_url, clock=lambda: NOW) for _ in range(2)]
    await change(stores[0], insert(decisions), decision_rows(chance, 200, 6))
    span = Span(since=NOW - timedelta(days=7), until=NOW)

    async def go_on(store: Store) -> None:
        for _ in range(4):
            await store.summing.round()

    async def come_late(store: Store) -> None:
        for number in range(12):
            await change(store, insert(decisions), decision_rows(chance, 1, 6))
            n = sum(one.n for one in await store.tallies.of_decisions(span))
            assert n == 201 + number

    await asyncio.gather(*(go_on(store) for store in stores), come_late(stores[1]))
    await asyncio.gather(*(sum_all(store) for store in stores))
    rows = await stores[0]._database.rows(text("SELECT stretch, sum(n) FROM decision_sums GROUP BY stretch"))
    ids = [row.decision_id for row in await stores[0]._database.rows(select(decisions.c.decision_id))]
    assert all(n == sum(one.startswith(stretch) for one in ids) for stretch, n in rows)
    await check(stores[0], span)


async def test_what_a_killed_process_began_is_begun_anew(store_url: str, open_store: OpenStore) -> None:
    """A while later, by whoever comes; what the first one would still keep is not kept."""
    chance, now = random.Random(6), [NOW]
    store = await open_store(store_url, clock=lambda: now[0])
    await change(store, insert(decisions), decision_rows(chance, 30, 1))
    names = await store.summing._fresh(DECISIONS)
    assert await store.summing._begin(DECISIONS, names, "killed") == set(names)
    await store.summing.round()
    assert ("decisions", 6) not in await kept(store)
    now[0] += FORGOTTEN + timedelta(seconds=1)
    await sum_all(store)
    assert (await kept(store))["decisions", 6] == len(names)
    wrong = [{**one, "n": 1000} for one in await _sums(store, names[0])]
    keep = partial(store.summing._keep, DECISIONS, names[0], "killed", wrong)
    await store._database.run(keep, mode="write")
    await check(store, Span(since=NOW - timedelta(days=2), until=NOW))


async def test_a_stretch_with_too_many_sums_is_left_alone(
    store_url: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that a caller makes up must not fill the memory; the others are summed all the same."""
    monkeypatch.setattr(summing, "MOST_GROUPS", 10)
    chance = random.Random(8)
    store = await open_store(store_url, clock=lambda: NOW)
    rows = decision_rows(chance, 40, 2)
    at = NOW - timedelta(days=1)
    for number, row in enumerate(rows[:20]):
        row.update(decision_id=id_at(at), model=f"made up {number}")
    await change(store, insert(decisions), rows)
    await sum_all(store)
    (crowded,) = await store._database.rows(select(stretches.c.stretch).where(stretches.c.kept_at.is_(None)))
    assert crowded.stretch == first_id(at)[:6]
    await check(store, Span(since=NOW - timedelta(days=3), until=NOW))


async def test_a_store_without_sums_is_summed(store_url: str, open_store: OpenStore) -> None:
    """What stood there before the migration, and what a replica of that version writes after it."""
    chance = random.Random(9)
    old = Store(store_url, clock=lambda: NOW)
    await migrate(old._database, lambda: NOW, MIGRATIONS[:4])
    old._database.ready = True
    await change(old, insert(decisions), as_before(decision_rows(chance, 50, 5)))
    await change(old, insert(outcomes), as_before(outcome_rows(chance, 50, 5, 1)))
    store = await open_store(store_url, clock=lambda: NOW)
    span = Span(since=NOW - timedelta(days=6), until=NOW)
    await check(store, span)
    await sum_all(store)
    await check(store, span)
    await change(old, insert(decisions), as_before(decision_rows(chance, 5, 5)))
    await change(old, update(outcomes).where(outcomes.c.seq < 9).values(withdrawn_at=NOW))
    await check(store, span)
    await old._database.aclose()


async def test_a_version_that_does_not_keep_who_was_heard_sums_beside_this_one(
    store_url: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows and sums from before the migration stand, and those that it goes on making take nothing away.

    Would catch: a column in the sums that it makes too, which it leaves empty.
    """
    chance = random.Random(15)
    old = Store(store_url, clock=lambda: NOW)
    await migrate(old._database, lambda: NOW, MIGRATIONS[:5])
    old._database.ready = True
    span = Span(since=NOW - timedelta(days=6), until=NOW)

    async def go_on_as_before(seq: int) -> None:
        await change(old, insert(decisions), as_before(decision_rows(chance, 40, 5)))
        await change(old, insert(outcomes), as_before(outcome_rows(chance, 40, 5, seq)))
        with monkeypatch.context() as before:
            before.setattr(summing, "SUMMED", (DECISIONS, OUTCOMES))
            assert await sum_all(old) > 0

    await go_on_as_before(1)
    store = await open_store(store_url, clock=lambda: NOW)
    assert (await kept(store))["decisions", 6] > 20
    assert await store.tallies.of_advised(span) == ([], [])
    await change(store, insert(decisions), decision_rows(chance, 40, 5))
    await change(store, insert(outcomes), outcome_rows(chance, 40, 5, 101))
    await check(store, span)
    await sum_all(store)
    await check(store, span)
    heard = await store.tallies.of_advised(span)
    assert sum(one.n for one in heard[1]) > 20
    await go_on_as_before(201)
    await check(store, span)
    assert [sorted(one, key=str) for one in await store.tallies.of_advised(span)] == [
        sorted(one, key=str) for one in heard
    ]
    await sum_all(store)
    await check(store, span)
    await old._database.aclose()


async def test_rows_that_are_copied_in_count(sqlite_url: str, postgres_database: str, open_store: OpenStore) -> None:
    """`store copy` adds to stretches whose sums are kept."""
    chance = random.Random(10)
    source = await open_store(sqlite_url, clock=lambda: NOW)
    target = await open_store(postgres_database, clock=lambda: NOW)
    for number, store in enumerate((source, target)):
        await change(store, insert(decisions), decision_rows(chance, 40, 3))
        await change(store, insert(outcomes), outcome_rows(chance, 40, 3, 1 + 100 * number))
        await sum_all(store)
    await copy_all(sqlite_url, postgres_database, lambda _table, _done: None)
    span = Span(since=NOW - timedelta(days=4), until=NOW)
    assert sum(one.n for one in await target.tallies.of_decisions(span)) == 80
    assert sum(one.n for one in await target.tallies.of_outcomes(span)) > 40
    await check(target, span)
    await sum_all(target)
    await check(target, span)


async def test_an_emptied_table_has_no_sums(postgres_database: str, open_store: OpenStore) -> None:
    """TRUNCATE says nothing of single rows."""
    store = await open_store(postgres_database, clock=lambda: NOW)
    await change(store, insert(decisions), decision_rows(random.Random(11), 40, 3))
    await sum_all(store)
    await change(store, text("TRUNCATE decisions"))
    assert await kept(store) == {}
    assert await store.tallies.of_decisions(Span(since=NOW - timedelta(days=4), until=NOW)) == []


async def test_many_holes_are_closed_by_reading_rows(
    store_url: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement has so many parts at most; what it says is the same."""
    monkeypatch.setattr(tallies, "MOST_GAPS", 3)
    chance = random.Random(12)
    store = await open_store(store_url, clock=lambda: NOW)
    await change(store, insert(decisions), decision_rows(chance, 100, 6))
    await sum_all(store)
    names = [row.stretch for row in await store._database.rows(select(stretches.c.stretch)) if len(row.stretch) == 6]
    for name in sorted(names)[::3]:
        at = datetime.fromtimestamp((int(name, 16) << 24) / 1000 + 60, UTC)
        late = decision_row(chance, at)
        await change(store, insert(decisions), [late])
    for days in (7, 5.1, 3):
        await check(store, Span(since=NOW - timedelta(days=days), until=NOW - timedelta(hours=days)))


async def test_a_sample_of_many_is_drawn_by_an_index(sqlite_url: str, open_store: OpenStore) -> None:
    """By the random end of the ids, first decisions only; not by reading every row."""
    chance = random.Random(13)
    store = await open_store(sqlite_url, clock=lambda: NOW)
    rows = decision_rows(chance, 400, 3)
    for row in rows[::2]:
        row["decision_id"] = row["decision_id"][:32] + f"{chance.randrange(0x400):04x}"
    await change(store, insert(decisions), rows)
    span = Span(since=NOW - timedelta(days=2), until=NOW)
    drawn = tallies._drawn(span, "sqlite", share=0.01)
    expected = {
        row["decision_id"]
        for row in rows
        if row["failures"] == 0
        and first_id(span.since) <= row["decision_id"] < first_id(NOW)
        and row["decision_id"][32:] < f"{int(0.01 * 0x10000):04x}"
    }
    assert {row.decision_id for row in await store._database.rows(drawn)} == expected
    assert len(expected) > 10
    sql = drawn.compile(dialect=store._database._engine.dialect, compile_kwargs={"literal_binds": True})
    (plan,) = await store._database.rows(text(f"EXPLAIN QUERY PLAN {sql}"))
    assert "decisions_drawn" in plan.detail


@pytest.mark.parametrize("summed", SUMMED, ids=lambda one: one.name)
async def test_rows_are_added_up_by_an_index_alone(sqlite_url: str, open_store: OpenStore, summed: Summed) -> None:
    """Of a span and of a stretch: the wide rows themselves are not read."""
    store = await open_store(sqlite_url, clock=lambda: NOW)
    dialect = store._database._engine.dialect
    of_gap = summed.of_rows(0, "sqlite").params(bounds_of([Gap("0190", "01ff")]))
    for statement in (of_gap, summed.of_stretch("019999")):
        sql = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        (plan,) = await store._database.rows(text(f"EXPLAIN QUERY PLAN {sql}"))
        assert f"USING COVERING INDEX {summed.name}_sums" in plan.detail


async def _sums(store: Store, name: str) -> list[dict[str, Any]]:
    return await store._database.run(partial(summing._read, DECISIONS, name), mode="read") or []
