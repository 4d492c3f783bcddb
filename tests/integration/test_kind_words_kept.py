"""What is learned of words from tasks whose kind was told outlives a restart, and is shared by replicas."""

import asyncio
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import delete

from service.classifiers.kind_text import MAX_LEARNED_WORDS
from service.contract.decision import KindTold
from service.contract.errors import StoreUnavailableError
from service.contract.settings import Settings
from service.contract.task import Attempt
from service.knowledge.kind_learner import TRIES, KindLearner
from service.knowledge.knowledge import InUse, read_knowledge
from service.knowledge.told_words import MAX_KINDS, OtherFormatError, ToldWords, added
from service.store import Store
from service.store.copying import copy_all
from service.store.schema import snapshots
from service.store.snapshots import KIND_WORDS, Snapshot, SnapshotTable
from tests.support.builders import task
from tests.support.store_fixtures import OpenStore

CALLER = KindTold(id="research", source="caller", probabilities={"research": 1.0})
MODEL = KindTold(id="research", source="local_model", probabilities={"research": 1.0})
MONTHS = ("May", "June", "July", "August", "autumn")


def learner(store: Store, *, keep_all: bool = False, clock: Callable[[], float] | None = None) -> KindLearner:
    """A replica that learns words beside others."""
    more = {} if clock is None else {"clock": clock}
    return KindLearner(InUse(read_knowledge(Settings())), store.snapshots, keep_all=keep_all, **more)


def tell(one: KindLearner, *texts: str, kind: KindTold = CALLER) -> None:
    """Tasks of that kind."""
    for text in texts:
        one.told(task(instructions=text), kind)


def ledgers(months: tuple[str, ...] = MONTHS) -> list[str]:
    """Different texts that share most of their words."""
    return [f"Reconcile the {month} ledger" for month in months]


async def kept(store: Store) -> ToldWords:
    """What stands in the store."""
    found = await store.snapshots.load(KIND_WORDS)
    return ToldWords() if found is None else ToldWords.from_bytes(found.body)


def said(one: KindLearner, text: str = "the shipyard's ledger") -> float:
    """How likely the text is taken for research."""
    knowledge = one._in_use.knowledge
    return knowledge.reader.read(task(instructions=text)).kinds["research"]


async def test_a_restart_forgets_nothing(store_url: str, open_store: OpenStore) -> None:
    """What was told before the end is known after the start, and decided with at once."""
    store = await open_store(store_url)
    first = learner(store)
    await first.start(follow=True)
    before = said(first)
    tell(first, *ledgers())
    await first.aclose()
    second = learner(await open_store(store_url))
    await second.start(follow=False)
    assert said(second) > before + 0.2
    assert second.report.kept_texts == 5


async def test_replicas_add_up(store_url: str, open_store: OpenStore) -> None:
    """Replicas that keep at the same moment lose nothing of each other's, and each decides with what all were told."""
    stores = [await open_store(store_url) for _ in range(3)]
    replicas = [learner(store) for store in stores]
    for number, one in enumerate(replicas):
        tell(one, *(f"{text} of replica {chr(97 + number) * 5}" for text in ledgers()))
    for _ in range(3):  # who was overtaken TRIES times keeps it in the next round
        await asyncio.gather(*(one.keep() for one in replicas))
    whole = await kept(stores[0])
    assert whole.texts == {"research": 15.0}
    assert whole.words["ledger"] == {"research": 15.0}
    assert all(whole.words[chr(97 + number) * 5] == {"research": 5.0} for number in range(3))
    newcomer = learner(stores[0])
    await newcomer.start(follow=False)
    for one in replicas:
        await one.keep()
        await one.use()
        assert said(one) == pytest.approx(said(newcomer), abs=0.01)  # rare words of its own aside


async def test_a_word_of_few_texts_stays_in_memory(open_store: OpenStore) -> None:
    """What stood in one or two texts only, a name or a secret, is never written; the same text again is no other one,
    and a classifier's word counts half."""
    store = await open_store("sqlite://")
    one = learner(store)
    tell(one, "Ask Zebediah about ledgers", "Ask Zebediah about ledgers", "Ask Zebediah about payments")
    tell(one, *(f"Ask Balthasar, {month}" for month in MONTHS), kind=MODEL)
    await one.keep()
    assert not {"zebediah", "zebe*", "balthasar"} & (await kept(store)).words.keys()
    tell(one, "Does Zebediah know?", "Balthasar again")
    tell(one, "Ask Balthasar about nothing", kind=MODEL)
    await one.keep()
    assert (await kept(store)).words["zebediah"] == {"research": 3.0}
    assert (await kept(store)).words["balthasar"] == {"research": 4.0}


async def test_where_texts_are_kept_every_word_is(open_store: OpenStore) -> None:
    """With store.keep_instructions the text itself is on record."""
    store = await open_store("sqlite://")
    one = learner(store, keep_all=True)
    tell(one, "Ask Zebediah")
    await one.keep()
    assert "zebediah" in (await kept(store)).words


async def test_what_its_own_text_says_teaches_nothing(open_store: OpenStore) -> None:
    """Nor does a task that is asked again after an attempt."""
    store = await open_store("sqlite://")
    one = learner(store, keep_all=True)
    tell(one, "Ask Zebediah", kind=msgspec.structs.replace(CALLER, source="text"))
    attempt = Attempt(agent_type="claude", model="claude-opus-4-8", result="failed")
    one.told(task(instructions="Ask Balthasar", attempts=[attempt]), CALLER)
    await one.keep()
    assert await store.snapshots.load(KIND_WORDS) is None


@pytest.mark.parametrize("damage", [b"", b"nonsense", "cut"], ids=["empty", "nonsense", "cut"])
async def test_damage_is_noted_and_written_over(open_store: OpenStore, damage: bytes | str) -> None:
    """A row that cannot be read is counted once, keeps nobody from deciding, and is written anew."""
    store = await open_store("sqlite://")
    body = ToldWords(texts={"issue": 2.0}, words={"a": {"issue": 2.0}}).to_bytes()
    await store.snapshots.save(KIND_WORDS, Snapshot(cursor=7, body=body[:-5] if isinstance(damage, str) else damage))
    one = learner(store)
    await one.start(follow=False)
    tell(one, *ledgers())
    await one.keep()
    await one.keep()
    assert one.report.unreadable == 1
    assert (await kept(store)).texts == {"research": 5.0}


async def test_a_replica_heals_what_was_damaged(open_store: OpenStore) -> None:
    """What it knew of all before the damage is written again."""
    store = await open_store("sqlite://")
    other, one = learner(store), learner(store)
    tell(other, *ledgers())
    await other.keep()
    await one.start(follow=False)
    await store.snapshots.save(KIND_WORDS, Snapshot(cursor=50, body=b"nonsense"))
    tell(one, *(f"{text} again" for text in ledgers()))
    await one.keep()
    assert (await kept(store)).texts == {"research": 10.0}


async def test_another_releases_words_are_left_alone(open_store: OpenStore) -> None:
    """During an update two releases write; the older one neither reads nor replaces what it does not know."""
    store = await open_store("sqlite://")
    body = ToldWords().to_bytes()
    newer = _compressed({"format": 2, "something": "else"})
    assert body != newer
    await store.snapshots.save(KIND_WORDS, Snapshot(cursor=3, body=newer))
    one = learner(store)
    await one.start(follow=False)
    tell(one, *ledgers())
    await one.keep()
    await one.use()
    found = await store.snapshots.load(KIND_WORDS)
    assert found is not None
    assert (found.cursor, found.body) == (3, newer)
    assert one.report.unreadable == 1
    assert said(one) > said(learner(store)) + 0.2


def _compressed(document: dict[str, object]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(document))


@pytest.mark.parametrize(
    "document",
    [
        {"format": 1, "told": {"texts": {"issue": float("nan")}}},
        {"format": 1, "told": {"words": {"a": {"issue": -1.0}}}},
        {"format": 1, "told": {"words": ["a"]}},
        {"told": {}},
        [1],
    ],
    ids=["nan", "negative", "shape", "no-format", "list"],
)
def test_numbers_that_are_none_are_damage(document: object) -> None:
    """Whatever stands there, no model is made from numbers that would spoil every probability."""
    with pytest.raises(ValueError, match=r".+"):
        ToldWords.from_bytes(_compressed(document))  # type: ignore[arg-type]


def test_a_small_row_cannot_fill_the_memory() -> None:
    """What would inflate to a gigabyte is refused after some megabytes."""
    packed = zlib.compressobj()
    body = b"".join([*(packed.compress(b"\0" * (1 << 20)) for _ in range(64)), packed.flush()])
    with pytest.raises(ValueError, match="larger than it can be"):
        ToldWords.from_bytes(body)


async def test_an_answer_that_got_lost_counts_nothing_twice(open_store: OpenStore) -> None:
    """Where the store fails after it wrote, the next round finds that out and adds nothing."""
    store = await open_store("sqlite://")
    table = _Forgetful(store.snapshots)
    one = KindLearner(InUse(read_knowledge(Settings())), table)
    tell(one, *ledgers())
    with pytest.raises(StoreUnavailableError):
        await one.keep()
    assert (await kept(store)).texts == {"research": 5.0}
    await one.keep()
    assert (await kept(store)).texts == {"research": 5.0}
    tell(one, *(f"{text} again" for text in ledgers()))
    await one.keep()
    assert (await kept(store)).texts == {"research": 10.0}


class _Forgetful(SnapshotTable):
    """Writes the first time, and says that it failed."""

    def __init__(self, table: SnapshotTable) -> None:
        super().__init__(table._database, clock=table._clock)
        self._lost = 1

    async def replace(self, name: str, snapshot: Snapshot, before: int | None) -> bool:
        done = await super().replace(name, snapshot, before)
        if self._lost:
            self._lost -= 1
            raise StoreUnavailableError("the answer got lost")
        return done


async def test_who_is_overtaken_tries_again(open_store: OpenStore) -> None:
    """However often others are faster, what was told is kept in the end, once."""
    store = await open_store("sqlite://")
    other = learner(store)
    one = KindLearner(InUse(read_knowledge(Settings())), _Overtaken(store.snapshots, other))
    tell(one, *ledgers())
    await one.keep()
    await one.keep()
    whole = await kept(store)
    assert whole.words["ledger"] == {"research": 5.0}
    assert whole.texts == {"research": 5.0 + TRIES}


class _Overtaken(SnapshotTable):
    """Another replica keeps one text just before each of the first tries."""

    def __init__(self, table: SnapshotTable, other: KindLearner) -> None:
        super().__init__(table._database, clock=table._clock)
        self._other = other
        self._times = 0

    async def replace(self, name: str, snapshot: Snapshot, before: int | None) -> bool:
        if self._times < TRIES:
            self._times += 1
            tell(self._other, f"Something {chr(97 + self._times) * 4}")
            await self._other.keep()
        return await super().replace(name, snapshot, before)


async def test_an_operator_can_delete_what_is_kept(open_store: OpenStore) -> None:
    """Once the row is gone, a running service forgets it too at its next look."""
    store = await open_store("sqlite://")
    one = learner(store)
    before = said(one)
    tell(one, *ledgers())
    await one.keep()
    await one.use()
    assert said(one) > before + 0.2
    await store.snapshots._database.change(delete(snapshots).where(snapshots.c.name == KIND_WORDS))
    await one.keep()
    await one.use()
    assert said(one) == pytest.approx(before)


async def test_a_store_that_is_away_costs_nothing(tmp_path: Path, open_store: OpenStore) -> None:
    """Without a database what is told is used all the same, and kept once there is one."""
    place = tmp_path / "folder" / "store.db"
    store = await open_store(f"sqlite:///{place}", retry_seconds=(0.01, 0.02), probe_seconds=0.02)
    one = learner(store)
    await one.start(follow=True)
    before = said(one)
    tell(one, *ledgers())
    with pytest.raises(StoreUnavailableError):
        await one.keep()
    await one.use()
    assert said(one) > before + 0.2
    place.parent.mkdir()
    async with asyncio.timeout(20):
        while not store.status.recording:  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0.02)
    await one.aclose()
    assert (await kept(store)).texts == {"research": 5.0}


async def test_it_keeps_and_looks_in_time(open_store: OpenStore) -> None:
    """What is told is kept after a minute; others' words are read after five where nothing is told here."""
    now = 1000.0
    store = await open_store("sqlite://")
    one, other = learner(store, clock=lambda: now), learner(store)
    await one.start(follow=False)
    tell(one, *ledgers())
    await one._round()
    assert await store.snapshots.load(KIND_WORDS) is None
    now += 61
    await one._round()
    assert (await kept(store)).texts == {"research": 5.0}
    tell(other, *(f"{text} again" for text in ledgers()))
    await other.keep()
    now += 61
    await one._round()
    assert one.report.kept_texts == 5
    now += 300
    await one._round()
    assert one.report.kept_texts == 10


def test_what_is_kept_is_bounded() -> None:
    """Hostile texts and catalogs that come and go leave the most frequent words and the kinds with the most texts."""
    flood = ToldWords(
        texts={f"kind-{i}": 1.0 for i in range(2 * MAX_KINDS)},
        words={f"w{i}": {f"kind-{i % (2 * MAX_KINDS)}": 1.0} for i in range(MAX_LEARNED_WORDS)},
    )
    real = ToldWords(texts={"issue": 9.0}, words={f"real{i}": {"issue": 9.0} for i in range(100)})
    both = added(flood, added(real, flood))
    assert len(both.texts) == MAX_KINDS
    assert len(both.words) <= MAX_LEARNED_WORDS
    assert all(both.words[f"real{i}"] == {"issue": 9.0} for i in range(100))
    assert {kind for counts in both.words.values() for kind in counts} <= both.texts.keys()
    assert len(both.to_bytes()) < 1_000_000
    assert ToldWords.from_bytes(both.to_bytes()) == both


async def test_endless_words_are_not_kept(open_store: OpenStore) -> None:
    """A text without a space is one word, which nobody needs whole."""
    store = await open_store("sqlite://")
    one = learner(store, keep_all=True)
    tell(one, "x" * 1500)
    await one.keep()
    assert set((await kept(store)).words) == {"xxxx*"}


async def test_a_kind_that_comes_back_is_known(open_store: OpenStore) -> None:
    """Words of a kind that the catalog no longer has are kept for the day it has it again, and harm no other."""
    store = await open_store("sqlite://")
    one = learner(store)
    gone = KindTold(id="bookkeeping", source="caller", probabilities={"bookkeeping": 1.0})
    tell(one, *ledgers(), kind=gone)
    await one.keep()
    second = learner(store)
    await second.start(follow=False)
    kinds = second._in_use.knowledge.reader.read(task(instructions="the ledger")).kinds
    assert sum(kinds.values()) == pytest.approx(1.0)
    assert max(kinds.values()) < 0.4
    assert (await kept(store)).texts == {"bookkeeping": 5.0}


async def test_a_copy_takes_them_along(tmp_path: Path, open_store: OpenStore) -> None:
    """`store copy` copies what cannot be made anew; run again, nothing counts twice."""
    source, target = (f"sqlite:///{tmp_path / name}.db" for name in ("from", "to"))
    store = await open_store(source)
    one = learner(store)
    tell(one, *ledgers())
    await one.keep()
    for _ in range(2):
        await copy_all(source, target, lambda table, rows: None)
    assert (await kept(await open_store(target))).texts == {"research": 5.0}


async def test_a_database_that_may_only_be_read_is_read(tmp_path: Path, open_store: OpenStore) -> None:
    """What is kept there is used; what is told meanwhile stays in memory."""
    store = await open_store(f"sqlite:///{tmp_path / 'store.db'}")
    one = learner(store)
    tell(one, *ledgers())
    await one.keep()
    before = said(learner(store))
    reader = KindLearner(InUse(read_knowledge(Settings())), store.snapshots.read_only())
    await reader.start(follow=False)
    assert said(reader) > before + 0.2
    tell(reader, *(f"{text} again" for text in ledgers()))
    await reader.keep()
    assert (await kept(store)).texts == {"research": 5.0}


def test_another_format_is_told_apart() -> None:
    """From damage, which is written over."""
    with pytest.raises(OtherFormatError):
        ToldWords.from_bytes(_compressed({"format": 99, "told": 7}))
