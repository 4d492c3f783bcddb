"""Follows outcomes for what they say of the classifiers: how much each deserves to be followed."""

import asyncio
import contextlib
from functools import partial

import structlog

from service.base.background import Background
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import RecordedOutcome
from service.forecast.leaning import REMEMBERED, Tried, Weight, learn_weight
from service.knowledge.knowledge import InUse
from service.logs.lines import log_defect
from service.store.outcomes import OutcomeTable

POLL_SECONDS = 3.0
"""How often new outcomes are looked for, other replicas' too; the promise is that all learn within 5 s."""

HISTORY = 5_000
"""Newest changes of the record that are read at the start: of all classifiers together, and of no classifier too."""

PAGE = 500


class ClassifierWeights:
    """Replaces the weights in use when outcomes change them. Belongs to one event loop.

    An outcome counts where its decision had a classifier's advice and its pair is the choice of that decision.
    """

    def __init__(self, outcomes: OutcomeTable, in_use: InUse) -> None:
        self._outcomes = outcomes
        self._in_use = in_use
        self._looking = asyncio.Lock()
        self._cursor: int | None = None
        self._tried: dict[str, tuple[str, Tried]] = {}
        self._log = structlog.get_logger("pointsman.learning")
        self.background = Background(self._follow, every_seconds=POLL_SECONDS, defect=partial(log_defect, self._log))

    async def start(self, *, wait: bool) -> None:
        """Begins to follow in the background; with `wait`, what is recorded now is learned before this returns."""
        if wait:
            with contextlib.suppress(StoreUnavailableError):
                await self.catch_up()
        self.background.start()
        self.background.wake()

    async def catch_up(self) -> None:
        """Reads what changed and learns from it. Raises StoreUnavailableError."""
        async with self._looking:
            await self._catch_up()

    async def _catch_up(self) -> None:
        if self._cursor is None:
            self._cursor = max(0, await self._outcomes.newest_change() - HISTORY)
        changed = False
        while True:
            changes = await self._outcomes.since(self._cursor, PAGE, reader="weights")
            if changes.restarted:  # another database stands in the place of the one that taught what is known
                changed = changed or bool(self._tried)
                self._tried.clear()
                self._cursor = 0
                continue
            for recorded in changes.outcomes:
                changed |= self._take(recorded)
            if changes.cursor == self._cursor:
                break
            self._cursor = changes.cursor
        if changed:
            await self._learn()

    def _take(self, recorded: RecordedOutcome) -> bool:
        """Whether it changes a weight."""
        if recorded.withdrawn_at is not None:
            return self._tried.pop(recorded.outcome_id, None) is not None
        context = recorded.context
        if context is None or context.advice is None or recorded.outcome.pair != context.choice:
            return False
        advice = context.advice
        tried = Tried(p_forecast=advice.p_forecast, lean=advice.lean, solved=recorded.outcome.solved)
        self._tried[recorded.outcome_id] = (advice.form, tried)
        return True

    async def _learn(self) -> None:
        by_form: dict[str, list[Tried]] = {}
        for form, tried in self._tried.values():
            by_form.setdefault(form, []).append(tried)
        for old in list(self._tried)[: -REMEMBERED * max(1, len(by_form))]:
            del self._tried[old]
        self._in_use.weights = weights = await asyncio.to_thread(_learned, by_form)
        for form, weight in weights.items():
            shown = {"weight": round(weight.weight, 3), "outcomes": weight.outcomes}
            self._log.info("weight of a classifier", form=form, **shown)

    async def _follow(self) -> None:
        try:
            await self.catch_up()
        except StoreUnavailableError as error:
            self._log.warning("outcomes cannot be read", problem=str(error))


def _learned(by_form: dict[str, list[Tried]]) -> dict[str, Weight]:
    return {form: learn_weight(tried) for form, tried in by_form.items()}
