"""Learns the words of each kind of work from tasks whose kind a caller or a classifier told."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce

import msgspec
import structlog

from service.base.background import Background
from service.base.ids import uuid7
from service.classifiers.kind_text import WordCounts
from service.classifiers.kind_words import READ
from service.classifiers.reading import Reader
from service.contract.catalog import Catalog
from service.contract.decision import KindTold
from service.contract.errors import StoreUnavailableError
from service.contract.task import Task
from service.knowledge.knowledge import InUse
from service.knowledge.told_words import OtherFormatError, ToldWords, added, parted, told_words
from service.logs.lines import log_defect
from service.store.snapshots import KIND_WORDS, Snapshot, SnapshotTable

EVERY_SECONDS = 30.0
"""How often what was told is taken into use; making the weights anew takes some 20 ms of another thread."""

KEEP_SECONDS = 60.0
"""How often what was told is kept."""

LOOK_SECONDS = 300.0
"""How often what other replicas were told is read where nothing was told here."""

CLOSING_SECONDS = 3.0

TRIES = 5
"""Replicas that keep at the same moment try again at once; after so many times in the next round."""

CLASSIFIER_WEIGHT = 0.5
"""A classifier's word counts as half a caller's."""

LEAST_TEXTS = 3.0
"""A word is kept in the store once it stood in so many different texts (twice as many where classifiers told), so that
what a single text says, a name or a secret, stays in memory. Where texts are kept themselves, every word is."""

REMEMBERED = 20_000
"""Texts that are remembered, by a hash: the same one again is no news, and no other text."""


class KindWordsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the words of kinds: texts that were told here since the start, and what is kept of all replicas
    (texts, where classifiers count half, and words); `unreadable` kept rows that were damaged or another release's."""

    told: int = 0
    kept_texts: float = 0.0
    kept_words: int = 0
    unreadable: int = 0


class KindLearner:
    """Adds what is told here to what the store keeps of all replicas, and decides with both. It belongs to one event
    loop. A store that is away is asked again; meanwhile what is told here is used."""

    def __init__(
        self,
        in_use: InUse,
        snapshots: SnapshotTable | None = None,
        *,
        keep_all: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Words are kept in `snapshots`, and nowhere without them; with `keep_all` those of a single text too."""
        self._in_use = in_use
        self._snapshots = snapshots
        self._least = 0.0 if keep_all else LEAST_TEXTS
        self._clock = clock
        self._new = WordCounts()
        self._waiting: list[ToldWords] = []
        self._unkept = ToldWords()
        self._sending: ToldWords | None = None
        self._writer, self._additions = uuid7(), 0
        self._kept = ToldWords()
        self._cursor: int | None = None
        self._looked_at = -LOOK_SECONDS
        self._seen: set[int] = set()
        self._seen_before: set[int] = set()
        self._used = (0, 0, in_use.knowledge.catalog.version)
        self._turn = asyncio.Lock()
        self._log = structlog.get_logger("pointsman.kinds")
        self._unreadable_at: int | None = None
        self.report = KindWordsReport()
        self.background = Background(self._round, every_seconds=EVERY_SECONDS, defect=partial(log_defect, self._log))

    async def start(self, *, follow: bool) -> None:
        """Takes what is kept into use; with `follow` goes on in the background, and keeps what is told."""
        with contextlib.suppress(StoreUnavailableError):
            async with self._turn:
                await self._look()
        await self.use()
        if follow:
            self.background.start()

    async def aclose(self) -> None:
        """Keeps what was told, unless it only looked."""
        if not self.background.started:
            return
        await self.background.aclose()
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.keep()

    def told(self, task: Task, kind: KindTold) -> None:
        """A task was decided as one of that kind. What its own text said teaches nothing, and a task asked again was
        told before."""
        if kind.source == "text" or task.attempts or self._known(hash((task.name, task.instructions[:READ]))):
            return
        weight = 1.0 if kind.source == "caller" else CLASSIFIER_WEIGHT
        self._new.add(kind.id, task.name, task.instructions, weight)
        self.report = msgspec.structs.replace(self.report, told=self.report.told + 1)

    async def use(self) -> None:
        """Decides with all that was told from now on."""
        async with self._turn:
            await self._gather()
            knowledge = self._in_use.knowledge
            now = (self.report.told, self._cursor or 0, knowledge.catalog.version)
            if self._used == now:
                return
            parts = [self._kept, self._unkept, *([self._sending] if self._sending else [])]
            reader = await asyncio.to_thread(_reader, knowledge.catalog, parts)
            current = self._in_use.knowledge
            if current.catalog is knowledge.catalog:
                self._in_use.knowledge = replace(current, reader=reader)
                self._used = now

    async def keep(self) -> None:
        """Adds what was told here to what is kept. Raises StoreUnavailableError."""
        async with self._turn:
            await self._gather()
            for _ in range(TRIES):
                if not await self._look() or await self._add():
                    break

    def _known(self, text: int) -> bool:
        if text in self._seen or text in self._seen_before:
            return True
        if len(self._seen) >= REMEMBERED:
            self._seen_before, self._seen = self._seen, set()
        self._seen.add(text)
        return False

    async def _round(self) -> None:
        news = bool(self._new.texts or self._waiting or self._unkept.texts or self._sending)
        if self._clock() - self._looked_at >= (KEEP_SECONDS if news else LOOK_SECONDS):
            with contextlib.suppress(StoreUnavailableError):  # the store says so itself
                await self.keep()
        await self.use()

    async def _gather(self) -> None:
        """Puts what was told since the last time to what is not yet kept; nothing is lost where this is cancelled."""
        if self._new.texts:
            self._waiting.append(told_words(self._new))
            self._new = WordCounts()
        if self._waiting:
            self._unkept = await asyncio.to_thread(reduce, added, self._waiting, self._unkept)
            self._waiting.clear()

    async def _look(self) -> bool:
        """Reads what is kept, of which another replica may have made more; False where it must not be replaced."""
        if self._snapshots is None:
            return False
        found = await self._snapshots.load(KIND_WORDS)
        self._looked_at = self._clock()
        if found is None:
            self._kept, self._cursor = ToldWords(), None
            return True
        if found.cursor == self._cursor:
            return True
        try:
            self._kept = await asyncio.to_thread(ToldWords.from_bytes, found.body)
        except OtherFormatError as error:
            self._note(found.cursor, "another release's words of kinds are left alone", error)
            return False
        except ValueError as error:
            self._note(found.cursor, "the kept words of kinds cannot be read, and are written anew", error)
        self._cursor = found.cursor
        self._count()
        return True

    async def _add(self) -> bool:
        """Whether nothing is left to be added; False where another replica was faster.

        What is sent stays the same under the same number until it is known to have arrived, so that an answer that got
        lost makes nothing count twice.
        """
        if self._snapshots is None:
            return True
        if self._sending is not None and self._kept.has(self._writer, self._additions):
            self._sending = None
        if self._sending is None:
            more, rest = await asyncio.to_thread(parted, self._unkept, self._kept, self._least)
            if not more.texts:
                return True
            self._sending, self._unkept = more, rest
            self._additions += 1
        both, body = await asyncio.to_thread(_together, self._kept, self._sending, self._writer, self._additions)
        cursor = (self._cursor or 0) + 1
        if not await self._snapshots.replace(KIND_WORDS, Snapshot(cursor=cursor, body=body), self._cursor):
            return False
        self._kept, self._cursor, self._sending = both, cursor, None
        self._count()
        return True

    def _count(self) -> None:
        texts = sum(self._kept.texts.values())
        self.report = msgspec.structs.replace(self.report, kept_texts=texts, kept_words=len(self._kept.words))

    def _note(self, cursor: int, problem: str, error: Exception) -> None:
        if self._unreadable_at != cursor:
            self._unreadable_at = cursor
            self.report = msgspec.structs.replace(self.report, unreadable=self.report.unreadable + 1)
            self._log.warning("words of kinds", problem=problem, error=str(error))


def _reader(catalog: Catalog, parts: list[ToldWords]) -> Reader:
    return Reader.of(catalog, reduce(added, parts).counts())


def _together(kept: ToldWords, more: ToldWords, writer: str, number: int) -> tuple[ToldWords, bytes]:
    both = kept.with_added(more, writer, number)
    return both, both.to_bytes()
