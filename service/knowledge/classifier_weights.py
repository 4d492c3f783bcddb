"""Follows outcomes for what they say of the classifiers: how much each deserves to be followed."""

import asyncio
from functools import partial

import structlog

from service.base.background import Background
from service.base.ids import is_uuid
from service.contract.decision import Advice
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import RecordedOutcome
from service.forecast.leaning import REMEMBERED, Tried, Weight, learn_weight
from service.knowledge.knowledge import InUse
from service.logs.lines import log_defect
from service.store.decisions import DecisionTable, StoredDecision
from service.store.outcomes import OutcomeTable

POLL_SECONDS = 3.0
"""How often new outcomes are looked for, other replicas' too; the promise is that all learn within 5 s."""

HISTORY = 5_000
"""Newest changes of the record that are read at the start: of all classifiers together, and of no classifier too."""

PAGE = 200
"""Outcomes read at once, with their decisions: a few milliseconds of the event loop."""

PATIENCE = 3
"""Rounds for which an outcome waits for a decision that another replica has not written yet."""


class ClassifierWeights:
    """Replaces the weights in use when outcomes change them. Belongs to one event loop.

    An outcome counts where its decision had a classifier's advice and its pair is the choice of that decision.
    """

    def __init__(self, outcomes: OutcomeTable, decisions: DecisionTable, in_use: InUse) -> None:
        self._outcomes = outcomes
        self._decisions = decisions
        self._in_use = in_use
        self._cursor: int | None = None
        self._tried: dict[str, tuple[str, Tried]] = {}
        self._early: dict[str, tuple[RecordedOutcome, int]] = {}
        self._log = structlog.get_logger("pointsman.learning")
        self.background = Background(self._follow, every_seconds=POLL_SECONDS, defect=partial(log_defect, self._log))

    async def catch_up(self) -> None:
        """Reads what changed and learns from it. Raises StoreUnavailableError."""
        if self._cursor is None:
            self._cursor = max(0, await self._outcomes.newest_change() - HISTORY)
        waited, self._early = self._early, {}
        changed = await self._take([outcome for outcome, _ in waited.values()], waited)
        while True:
            changes = await self._outcomes.since(self._cursor, PAGE)
            if not changes.outcomes:
                break
            changed |= await self._take(changes.outcomes, {})
            self._cursor = changes.cursor
        if changed:
            await self._learn()

    async def _take(self, page: list[RecordedOutcome], waited: dict[str, tuple[RecordedOutcome, int]]) -> bool:
        """Whether any of them changes a weight."""
        changed = False
        wanted: list[RecordedOutcome] = []
        for one in page:
            if one.withdrawn_at is not None:
                changed |= self._tried.pop(one.outcome_id, None) is not None
            elif one.outcome.decision_id is not None and is_uuid(one.outcome.decision_id):
                wanted.append(one)
        ids = sorted({str(one.outcome.decision_id) for one in wanted})
        found = {stored.decision_id: stored for stored in await self._decisions.get_many(ids)} if ids else {}
        for one in wanted:
            stored = found.get(str(one.outcome.decision_id))
            rounds = waited[one.outcome_id][1] if one.outcome_id in waited else 0
            if stored is not None:
                changed |= self._note(one, stored)
            elif rounds < PATIENCE:
                self._early[one.outcome_id] = (one, rounds + 1)
        return changed

    def _note(self, recorded: RecordedOutcome, stored: StoredDecision) -> bool:
        advice, outcome = stored.advice, recorded.outcome
        if not isinstance(advice, Advice) or (outcome.agent_type, outcome.model) != stored.choice:
            return False
        tried = Tried(p_forecast=advice.p_forecast, lean=advice.lean, solved=outcome.solved)
        self._tried[recorded.outcome_id] = (advice.form, tried)
        return True

    async def _learn(self) -> None:
        by_form: dict[str, list[Tried]] = {}
        for form, tried in self._tried.values():
            by_form.setdefault(form, []).append(tried)
        for old in list(self._tried)[: -REMEMBERED * max(1, len(by_form))]:
            del self._tried[old]
        weights = await asyncio.to_thread(_learned, by_form)
        self._in_use.weights = weights
        for form, weight in weights.items():
            self._log.info(
                "weight of a classifier", form=form, weight=round(weight.weight, 3), outcomes=weight.outcomes
            )  # fmt: skip

    async def _follow(self) -> None:
        try:
            await self.catch_up()
        except StoreUnavailableError as error:
            self._log.warning("outcomes cannot be read", problem=str(error))


def _learned(by_form: dict[str, list[Tried]]) -> dict[str, Weight]:
    return {form: learn_weight(tried) for form, tried in by_form.items()}
