"""What was learned is kept in the store: a start reads it and what is newer, and never needs it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Self

import msgspec
import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from service.contract.catalog import Catalog
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import Outcome
from service.core import Core
from service.forecast.forecaster import Forecaster
from service.forecast.learned import Learned
from service.knowledge import learner
from service.store.outcomes import OutcomeChanges
from service.store.schema import snapshots
from service.store.snapshots import Snapshot
from tests.support.builders import candidate, task
from tests.support.http_fixtures import settings_from
from tests.support.store_fixtures import until

CATALOG = Catalog([candidate("any", "small", solve_rate=0.4), candidate("any", "big", solve_rate=0.7)])


class Service:
    """A core over one database, as a service or a command starts it."""

    def __init__(self, url: str, catalog: Catalog = CATALOG, half_life: float = 250.0) -> None:
        self.core = Core(
            settings_from({"store": {"url": url}, "learning": {"half_life_outcomes": half_life}}), environ={}
        )
        self.core.in_use.knowledge = replace(
            self.core.in_use.knowledge, catalog=catalog, forecaster=Forecaster(catalog)
        )
        self.read = 0
        since = self.core.store.outcomes.since

        async def counted(cursor: int, limit: int = 500) -> OutcomeChanges:
            changes = await since(cursor, limit)
            self.read += len(changes.outcomes)
            return changes

        self.core.store.outcomes.since = counted  # type: ignore[method-assign]

    async def __aenter__(self) -> Self:
        await self.core.start(learn_first=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.core.aclose()

    @property
    def learned(self) -> Learned:
        """What is in use."""
        return self.core.in_use.knowledge.forecaster.learned

    async def report(self, number: int, *, solved: bool = True) -> str:
        """An outcome of a decision."""
        decision = await self.core.decide(task(task_id=f"t{number}"))
        (answer,) = await self.core.outcomes.record([Outcome(decision_id=decision.decision_id, solved=solved)])
        assert not isinstance(answer, Exception)
        return answer.outcome_id


@pytest.fixture(autouse=True)
def always_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of outcomes is kept as well as many."""
    monkeypatch.setattr(learner, "WORTH_KEEPING", 1)


async def filled(url: str, outcomes: int = 30) -> tuple[Learned, list[str]]:
    """A database with outcomes that were learned and kept."""
    async with Service(url) as one:
        ids = [await one.report(number, solved=number % 3 > 0) for number in range(outcomes)]
        await one.core.learner.catch_up()
        return one.learned, ids


async def test_a_start_with_nothing_newer_reads_no_outcome(store_url: str) -> None:
    """The same is known as before, and no outcome was read for it."""
    before, _ = await filled(store_url)
    async with Service(store_url) as again:
        assert again.learned == before
        assert again.read == 0
        assert again.core.learner.report.outcomes == 30


async def forgetful() -> None:
    """As if it died before it kept anything."""


async def test_a_start_reads_what_is_newer(store_url: str) -> None:
    """Of 30 outcomes and two newer ones, two are read, and all are learned from; calibration goes on too."""
    await filled(store_url)
    async with Service(store_url) as writer:
        writer.core.learner._keep = forgetful  # type: ignore[method-assign]
        await writer.report(100)
        await writer.report(101)
    async with Service(store_url) as again:
        assert again.read == 2
        assert again.core.learner.report.outcomes == 32
        assert sum(row.n for row in again.core.learner.calibration.rows()) == 32


async def test_many_outcomes_are_learned_in_a_hurry_and_then_settled(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round with many new outcomes leaves something for the next one, which needs no further outcome to come."""
    monkeypatch.setattr(learner, "MANY", 20)
    rounds: list[bool] = []
    async with Service(store_url) as one:
        relearn = one.core.learner.relearn

        async def watched(*, hurried: bool = False) -> None:
            rounds.append(hurried)
            await relearn(hurried=hurried)

        one.core.learner.relearn = watched  # type: ignore[method-assign]
        await one.report(0)
        for many in (False, True, False):
            if many:
                told = [Outcome(agent_type="claude", model="opus", solved=n % 2 == 0) for n in range(30)]
                await one.core.outcomes.record(told)
            await one.core.learner.catch_up(hurry=True)
        for _ in range(3):
            await one.core.learner.catch_up(hurry=True)
        assert rounds == [False, True, False]


async def test_what_was_learned_before_a_restart_can_be_withdrawn(store_url: str) -> None:
    """An outcome of the snapshot is taken back, from the forecast and from the calibration."""
    before, ids = await filled(store_url)
    async with Service(store_url) as again:
        assert await again.core.outcomes.withdraw(ids[0])
        await again.core.learner.catch_up()
        assert again.core.learner.report.outcomes == 29
        assert sum(row.n for row in again.core.learner.calibration.rows()) == 29
        assert again.learned.abilities != before.abilities


@pytest.mark.parametrize("change", ["catalog", "half-life"])
async def test_for_another_catalog_all_is_learned_anew_from_what_counts(store_url: str, change: str) -> None:
    """The outcomes that count are kept beside what was learned from them, whatever the catalog is."""
    before, _ = await filled(store_url)
    other = Catalog([*CATALOG.candidates, candidate("any", "new", solve_rate=0.5)])
    service = Service(store_url, other) if change == "catalog" else Service(store_url, half_life=20.0)
    async with service as again:
        assert again.read == 0
        assert again.core.learner.report.outcomes == 30
        assert again.learned.version != before.version


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\x81\xa1x\x01"], ids=["empty", "text", "other"])
async def test_a_damaged_snapshot_is_as_if_it_were_not_there(store_url: str, body: bytes) -> None:
    """Everything is read from the record instead."""
    before, _ = await filled(store_url)
    async with Service(store_url) as one:

        async def damage(connection: AsyncConnection) -> None:
            await connection.execute(update(snapshots).values(body=body))

        one.core.learner._keep = forgetful  # type: ignore[method-assign]
        await one.core.store._database.run(damage, mode="write")
    async with Service(store_url) as again:
        assert again.read == 30
        assert again.core.learner.report.outcomes == 30
        for key, known in before.abilities.items():
            assert again.learned.abilities[key].theta == pytest.approx(known.theta, abs=0.01)


async def test_what_an_older_release_learned_is_learned_anew_by_a_service(tmp_path: Path) -> None:
    """It did not tell how well abilities are known; a command takes it as it is."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    await filled(url)
    async with Service(url) as one:
        version = one.core.in_use.knowledge.catalog.version
        known = one.learned.abilities
        older = {key: msgspec.structs.replace(ability, sd=None) for key, ability in known.items()}
        learned = msgspec.structs.replace(one.learned, abilities=older)
        one.core.learner._keep = forgetful  # type: ignore[method-assign]
        assert one.core.learner._memory is not None
        await one.core.learner._memory.keep_learned(30, version, learned)
    async with Service(url) as command:
        command.core.learner._keep = forgetful  # type: ignore[method-assign]
        assert command.learned.abilities == older
    service = Service(url)
    await service.core.start()
    await until(lambda: service.learned.abilities["any", "big"].sd is not None)
    assert service.core.learner.report.outcomes == 30
    await service.core.aclose()
    async with Service(url) as again:
        assert again.learned.abilities["any", "big"].sd is not None


async def test_a_snapshot_of_less_never_takes_the_place_of_one_of_more(store_url: str) -> None:
    """Of two replicas the one that has seen more prevails, whoever writes last."""
    async with Service(store_url) as one:
        table = one.core.store.snapshots
        await table.save("x", Snapshot(cursor=7, body=b"seven"))
        await table.save("x", Snapshot(cursor=5, body=b"five"))
        assert await table.load("x") == Snapshot(cursor=7, body=b"seven")
        await table.save("x", Snapshot(cursor=7, body=b"seven anew"))
        assert await table.load("x") == Snapshot(cursor=7, body=b"seven anew")
        assert await table.load("y") is None


async def test_an_outcome_that_cannot_be_read_stops_no_other(store_url: str) -> None:
    """It is left out and counted, and a decision likewise."""
    async with Service(store_url) as one:
        for number in range(5):
            await one.report(number)
        await one.core.store.decisions.flush()

        async def damage(connection: AsyncConnection) -> None:
            await connection.execute(text("UPDATE outcomes SET body = '{\"solv' WHERE seq = 2"))
            await connection.execute(text("UPDATE outcomes SET context = 'x' WHERE seq = 4"))
            await connection.execute(
                text("UPDATE decisions SET body = '[]' WHERE decision_id = (SELECT max(decision_id) FROM decisions)")
            )
            await connection.execute(text("DELETE FROM snapshots"))

        one.core.learner._keep = forgetful  # type: ignore[method-assign]
        await one.core.store._database.run(damage, mode="write")
        assert len(await one.core.store.decisions.newest()) == 4
    async with Service(store_url) as again:
        assert again.core.learner.report.outcomes == 3
        assert again.core.learner.report.unreadable == 2
        assert len([one async for one in again.core.store.outcomes.export()]) == 3


async def test_a_database_that_was_replaced_is_followed_anew(tmp_path: Path) -> None:
    """Another file in the place of the one that was open, with more in it: all of it is learned, and nothing else."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    await filled(f"sqlite:///{new}", 50)
    engine = create_async_engine(f"sqlite+aiosqlite:///{new}")
    async with engine.connect() as connection:
        await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    await engine.dispose()
    async with Service(f"sqlite:///{old}") as one:
        for number in range(10):
            await one.report(number)
        await one.core.learner.catch_up()
        assert one.core.learner.report.outcomes == 10
        for suffix in ("", "-wal", "-shm"):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
        new.rename(old)
        for _ in range(100):
            try:
                await one.core.learner.catch_up()
            except StoreUnavailableError:
                await asyncio.sleep(0.1)
            else:
                break
        assert one.core.learner.report.outcomes == 50
        assert sum(row.n for row in one.core.learner.calibration.rows()) == 50


async def test_what_was_learned_for_a_new_catalog_is_kept_too(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is new since, the next start with that catalog learns nothing anew."""
    await filled(store_url)
    monkeypatch.setattr(learner, "WORTH_KEEPING", 10_000)
    other = Catalog([*CATALOG.candidates, candidate("any", "new", solve_rate=0.5)])
    async with Service(store_url, other) as one:
        learned = one.learned
    async with Service(store_url, other) as again:
        assert again.learned == learned
        assert not again.core.learner._recalled
