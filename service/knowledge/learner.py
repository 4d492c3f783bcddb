"""Keeps the forecast up to date with recorded outcomes, off the way of any request."""

import asyncio
import contextlib
import time
from dataclasses import replace
from functools import partial
from math import inf

import msgspec
import structlog

from service.base.background import Background
from service.contract.catalog import Catalog
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import Context, RecordedOutcome
from service.contract.settings import LearningSettings
from service.contract.task import Key
from service.forecast.ability import learn
from service.forecast.draws import drawn_forecasters
from service.forecast.forecaster import Forecaster
from service.forecast.history import History, OutcomeRow
from service.forecast.learned import Learned
from service.knowledge.calibration import Calibration
from service.knowledge.knowledge import InUse, Knowledge
from service.knowledge.memory import Memory
from service.knowledge.pair_counts import PairCounts, UnknownPairs
from service.logs.lines import log_defect
from service.store.outcomes import OutcomeChanges, OutcomeTable
from service.store.snapshots import SnapshotTable

REST = 2.0
LONGEST_REST_SECONDS = 2.0
LATEST_SECONDS = 4.0
"""After learning for t seconds it rests for REST × t, so that it takes no more than a third of one core; but never so
long that what comes meanwhile would be learned late: it waits for the end of this round, the rest, and the next one."""

MANY = 200
"""Changes in one round from which on learning is hurried, and settled once fewer come."""

SETTLE_SECONDS = 60.0
"""How long learning may be hurried where they never get fewer."""

READ_AT_ONCE = 50_000
"""Changes after which what was read is learned from and kept, before more is read."""

POLL_SECONDS = 2.0
"""How often other replicas' outcomes are looked for; the promise is that all learn within 5 s."""

KEEP_SECONDS = 60.0
"""How often what was learned is kept."""

WORTH_KEEPING = 200
"""Changes since then that make it worth keeping at the end, too: learning them again takes as long as a start."""

CLOSING_SECONDS = 3.0

PAGE = 2000
"""Outcomes read at once, so that a first start over a long history does not hold the event loop."""


class LearningReport(msgspec.Struct, frozen=True, kw_only=True):
    """How much is learned from now; `ignored` are outcomes of pairs that no catalog has, `unreadable` rows that are
    damaged."""

    outcomes: int = 0
    ignored: int = 0
    unreadable: int = 0
    version: str | None = None


class Learner:
    """Follows the record of outcomes and replaces the forecaster in use; a database that is away is asked again."""

    def __init__(
        self,
        outcomes: OutcomeTable,
        in_use: InUse,
        settings: LearningSettings | None = None,
        snapshots: SnapshotTable | None = None,
    ) -> None:
        """What was learned is kept in `snapshots`, and nowhere without them."""
        self.report = LearningReport()
        self.calibration = Calibration()
        self._counts = PairCounts()
        self._settings = settings or LearningSettings()
        self._outcomes = outcomes
        self._in_use = in_use
        self._memory = None if snapshots is None else Memory(snapshots, half_life=self._settings.half_life_outcomes)
        self._recalled = self._memory is None
        self._history = self._nothing()
        self._cursor = 0
        self._kept_at = (0, -inf)
        self._kept_for = ""
        self._learned: Learned | None = None
        self._stale = self._settings.explore_usd_per_day > 0
        self._hurried_since: float | None = None
        self._catching_up = asyncio.Lock()
        self._log = structlog.get_logger("pointsman.learning")
        self.background = Background(self._follow, every_seconds=POLL_SECONDS, defect=partial(log_defect, self._log))

    async def start(self, *, wait: bool = False) -> None:
        """Begins to follow in the background; with `wait`, what is recorded now is learned before this returns."""
        with contextlib.suppress(StoreUnavailableError):
            await self._begin(wait=wait)
        self.background.start()
        if not wait:
            self.nudge()

    async def aclose(self) -> None:
        """Keeps what was learned, where much was."""
        await self.background.aclose()
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS), self._catching_up:
                if self._worth_keeping():
                    await self._keep()

    def knows(self, pair: Key) -> bool:
        """Whether the catalog in use has it, so that its outcomes teach something."""
        return pair in self._in_use.knowledge.catalog.by_key

    def unknown_pairs(self) -> UnknownPairs:
        """Those on record that it does not have."""
        return self._counts.unknown(self._in_use.knowledge.catalog.by_key)

    def nudge(self) -> None:
        """An outcome was just recorded or withdrawn here: learn from it now rather than at the next look."""
        self.background.wake()

    async def catch_up(self, *, hurry: bool = False) -> None:
        """Reads what changed, and learns anew where something did; in a `hurry` where there is much of it, because
        there will be another round. Raises StoreUnavailableError."""
        async with self._catching_up:  # two readers at once would count each change twice
            await self._recall()
            whole = False
            while not whole:
                before = self._cursor
                changed, whole = await self._read()
                if changed or self._stale or self._hurried_since is not None:
                    self._stale = False
                    await self.relearn(hurried=hurry and self._may_hurry(self._cursor - before))
                    if time.monotonic() - self._kept_at[1] >= KEEP_SECONDS:
                        with contextlib.suppress(StoreUnavailableError):  # a record that can only be read is read
                            await self._keep()

    def _may_hurry(self, changes: int) -> bool:
        """Whether this round may leave something for the next one to settle."""
        now = time.monotonic()
        since = self._hurried_since or now
        hurried = abs(changes) >= MANY and now - since < SETTLE_SECONDS
        self._hurried_since = since if hurried else None
        return hurried

    async def relearn(self, *, hurried: bool = False) -> None:
        """Estimates all anew for the catalog in use, in a thread; requests go on with the old forecaster meanwhile."""
        while True:
            catalog = self._in_use.knowledge.catalog
            learned, forecaster, worlds = await asyncio.to_thread(self._learn, catalog, hurried=hurried)
            current = self._in_use.knowledge
            if current.catalog is catalog:
                break
        self._use(learned, forecaster, worlds)
        self._log.info("learned", **msgspec.structs.asdict(self.report))

    def _use(self, learned: Learned, forecaster: Forecaster, worlds: tuple[Forecaster, ...]) -> None:
        self._learned = learned
        self._in_use.knowledge = replace(self._in_use.knowledge, forecaster=forecaster, worlds=worlds)
        self.report = msgspec.structs.replace(
            self.report, outcomes=learned.used, ignored=learned.ignored, version=learned.version
        )

    def _learn(self, catalog: Catalog, *, hurried: bool) -> tuple[Learned, Forecaster, tuple[Forecaster, ...]]:
        learned = learn(catalog, self._history, start=self._learned, hurried=hurried)
        explores = self._settings.explore_usd_per_day > 0 and len(catalog.candidates) > 1
        return learned, Forecaster(catalog, learned), drawn_forecasters(catalog, learned) if explores else ()

    def adopt(self, knowledge: Knowledge) -> None:
        """Takes a new catalog and new prompts into use; what was learned for the same pairs follows in a moment."""
        self._in_use.knowledge = replace(knowledge, forecaster=Forecaster(knowledge.catalog, self._learned), worlds=())
        self._stale = True
        self.nudge()

    async def _begin(self, *, wait: bool) -> None:
        """Takes what was learned before into use; learns what is newer only where that is waited for."""
        recalled = None
        catalog = self._in_use.knowledge.catalog
        if self._memory is not None:
            recalled = await self._memory.learned(catalog.version)
        if recalled is not None:
            older = any(known.sd is None for known in recalled.learned.abilities.values())
            self._kept_for = "" if older else catalog.version
            # Decisions lack nothing of it: a command does not wait for it to be learned anew, as a release before this
            # one kept it without how well abilities are known.
            self._stale = self._stale or (older and not wait)
            self._use(recalled.learned, Forecaster(catalog, recalled.learned), ())
            if not self._stale and recalled.cursor == await self._outcomes.last_change():
                return
        if wait:
            await self.catch_up()

    async def _recall(self) -> None:
        """Reads the outcomes that counted when they were last kept."""
        if self._recalled or self._memory is None:
            return
        found = await self._memory.history()
        if found is not None:
            self._cursor, self._history, self.calibration, self._counts = found
            self._kept_at = (self._cursor, time.monotonic())
            self._stale = self._stale or self._learned is None
        self._recalled = True

    def _worth_keeping(self) -> bool:
        """Much is new since it was kept, or it was kept for another catalog."""
        if self._learned is None or not self._learned.used or not self._recalled:
            return False
        other = self._kept_for != self._in_use.knowledge.catalog.version
        return other or self._cursor - self._kept_at[0] >= WORTH_KEEPING

    async def _keep(self) -> None:
        if self._memory is None or self._learned is None:
            return
        history = await asyncio.to_thread(self._history.to_bytes)
        await self._memory.keep_history(self._cursor, history, self.calibration, self._counts)
        await self._memory.keep_learned(self._cursor, self._in_use.knowledge.catalog.version, self._learned)
        self._kept_for = self._in_use.knowledge.catalog.version
        self._kept_at = (self._cursor, time.monotonic())

    def _nothing(self) -> History:
        return History(half_life=self._settings.half_life_outcomes)

    async def _read(self) -> tuple[bool, bool]:
        """Whether something changed, and whether that is all: a long history is learned from on the way."""
        changed, begun = False, self._cursor
        while True:
            changes = await self._outcomes.since(self._cursor, PAGE)
            if changes.restarted:
                self._log.warning("the record of outcomes begins anew: another database stands in its place")
                self._history, self.calibration, changed = self._nothing(), Calibration(), True
                self._counts = PairCounts()
                self._kept_at = (0, -inf)
            self._take(changes)
            changed = changed or bool(changes.outcomes)
            if changes.cursor == self._cursor and not changes.restarted:
                return changed, True
            self._cursor = changes.cursor
            if self._cursor - begun >= READ_AT_ONCE:
                return changed, False

    def _take(self, changes: OutcomeChanges) -> None:
        unreadable = self.report.unreadable + changes.unreadable
        self.report = msgspec.structs.replace(self.report, unreadable=unreadable)
        in_catalog = self._in_use.knowledge.catalog.by_key
        for recorded in changes.outcomes:
            known = recorded.seq <= self._cursor
            if known == (recorded.withdrawn_at is not None):
                self._counts.take(recorded.outcome.pair, in_catalog, back=known)
            if recorded.withdrawn_at is None:
                self.calibration.take(recorded)
                self._history.put(row_of(recorded), recorded.outcome_id)
            elif known:
                self.calibration.take(recorded, back=True)
                self._history.withdraw(recorded.outcome_id)

    async def _follow(self) -> None:
        started = time.monotonic()
        try:
            await self.catch_up(hurry=True)
        except StoreUnavailableError as error:
            self._log.warning("outcomes cannot be read", problem=str(error))
        taken = time.monotonic() - started
        await asyncio.sleep(max(0.0, min(REST * taken, LONGEST_REST_SECONDS, LATEST_SECONDS - 2 * taken)))


def row_of(recorded: RecordedOutcome) -> OutcomeRow:
    """An outcome with what its decision knew; what it says itself wins."""
    outcome = recorded.outcome
    context = recorded.context or Context(agent_type="", model="")
    agent_type, model = outcome.pair
    return OutcomeRow(
        agent_type=agent_type,
        model=model,
        solved=outcome.solved,
        cost_usd=outcome.cost_usd,
        duration_seconds=outcome.duration_seconds,
        labels={**context.labels, **outcome.labels},
        kind=outcome.kind or outcome.labels.get("kind") or context.kind,
        task=outcome.task_id or context.task_id or outcome.decision_id,
        minutes=context.minutes,
        failed=tuple(context.failed),
    )
