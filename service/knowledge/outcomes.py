"""The one way in for outcomes, from HTTP and from the command line."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import msgspec
import structlog

from service.base.background import Background
from service.base.ids import is_uuid
from service.contract.errors import InvalidInputError, StoreUnavailableError
from service.contract.outcome import Context, Outcome, promised
from service.knowledge.contexts import Contexts
from service.knowledge.learner import Learner
from service.logs.lines import log_defect
from service.store.outcomes import OutcomeTable, Recording

SETTLE_SECONDS = 2.0
"""A decision that is not on record yet is looked for again so much later: by then every replica has written its own."""

LOOKS = 3
"""How often it is looked for; then it was pruned, or is of another database."""

WAIT_SECONDS = 1.5
"""How long an outcome that names neither agent nor model waits for its decision before it is refused."""

MAX_WAITING = 10_000
"""Outcomes whose decision is looked for again; beyond it the oldest are learned by what they say themselves."""

PAGE = 200


class _Lacking(msgspec.Struct):
    outcome_id: str
    decision_id: str
    outcome: Outcome
    looks: int = 0


class Outcomes:
    """Records outcomes with what their decisions knew, and tells of each new one: it is counted, and learned from.

    A decision that another replica made a moment ago may not be on record yet: its outcome is recorded at once, and
    what the decision knew is added in the background.
    """

    def __init__(
        self,
        table: OutcomeTable,
        contexts: Contexts,
        learner: Learner,
        *,
        counted: Callable[[Outcome], None],
        compared: Callable[[Outcome, float], None],
        unlinked: Callable[[], None],
        advised: Callable[[Outcome, Context], None] = lambda _outcome, _context: None,
    ) -> None:
        """`counted` is told of each new outcome, `compared` of each that its decision gave a chance, and of that
        chance, `unlinked` of each whose decision was never found, `advised` of each whose decision was found."""
        self._table = table
        self._contexts = contexts
        self._learner = learner
        self._counted = counted
        self._compared = compared
        self._unlinked = unlinked
        self._advised = advised
        self._lacking: deque[_Lacking] = deque(maxlen=MAX_WAITING)
        log = structlog.get_logger("pointsman.outcomes")
        self.background = Background(self._follow, every_seconds=None, defect=partial(log_defect, log))

    async def start(self) -> None:
        """Begins to look for decisions that were not found, those of outcomes before a restart among them."""
        self.background.start()
        try:
            for recorded in await self._table.lacking(MAX_WAITING // 10):
                self._seek(recorded.outcome_id, recorded.outcome)
        except StoreUnavailableError:
            pass  # what is not linked now is learned by what it says itself

    async def record(
        self, outcomes: Sequence[Outcome], origins: Sequence[str | None] = ()
    ) -> list[Recording | InvalidInputError]:
        """Durable when this returns; one answer for each, in order: an InvalidInputError where an outcome names neither
        agent nor model, and no decision that does. `origins`: see `OutcomeTable.record`.

        Raises StoreUnavailableError, and then none was recorded.
        """
        if not outcomes:
            return []
        found = await self._found(outcomes)
        whole = [_filled(one, found.get(one.decision_id or "")) for one in outcomes]
        good = [at for at, one in enumerate(whole) if one.agent_type is not None]
        recordings = await self._table.record(
            [whole[at] for at in good],
            [found.get(whole[at].decision_id or "") for at in good],
            [origins[at] for at in good] if origins else (),
        )
        answers: list[Recording | InvalidInputError] = [_refusal(one) for one in whole]
        for at, recording in zip(good, recordings, strict=True):
            answers[at] = msgspec.structs.replace(recording, learned=self._learner.knows(whole[at].pair))
            if recording.state == "new":
                self._counted(whole[at])
                self._compare(whole[at], found.get(whole[at].decision_id or ""))
                if whole[at].decision_id not in found:
                    self._seek(recording.outcome_id, whole[at])
        self._learner.nudge()
        return answers

    async def withdraw(self, outcome_id: str) -> bool:
        """Nothing is learned from it any more; False where there never was one. Raises StoreUnavailableError."""
        if not is_uuid(outcome_id) or not await self._table.withdraw(outcome_id):
            return False
        self._learner.nudge()
        return True

    async def link(self) -> None:
        """Looks once for the decisions of all that wait. Raises StoreUnavailableError; what it did not see still
        waits."""
        for _ in range(-(-len(self._lacking) // PAGE)):
            page = list(islice(self._lacking, PAGE))
            found = await self._contexts.find(one.decision_id for one in page)
            complete = {one.outcome_id: found[one.decision_id] for one in page if one.decision_id in found}
            if complete:
                await self._table.complete(complete)
                self._learner.nudge()
            for one in page:
                self._lacking.popleft()
                one.looks += 1
                if one.outcome_id in complete:
                    self._compare(one.outcome, complete[one.outcome_id])
                elif one.looks < LOOKS:
                    self._lacking.append(one)
                else:
                    self._unlinked()

    async def _found(self, outcomes: Sequence[Outcome]) -> dict[str, Context]:
        """What their decisions knew. Waits a moment where an outcome cannot be recorded without its decision."""
        found = await self._contexts.find(one.decision_id for one in outcomes)
        for _ in range(3):
            needed = [one.decision_id for one in outcomes if one.agent_type is None and one.decision_id not in found]
            if not any(is_uuid(one or "") for one in needed):
                break
            await asyncio.sleep(WAIT_SECONDS / 3)
            found |= await self._contexts.find(needed)
        return found

    def _compare(self, outcome: Outcome, context: Context | None) -> None:
        said = promised(outcome, context)
        if said is not None:
            self._compared(outcome, said[0])
        if context is not None:
            self._advised(outcome, context)

    def _seek(self, outcome_id: str, outcome: Outcome) -> None:
        if outcome.decision_id is None:
            return
        if is_uuid(outcome.decision_id):
            self._lacking.append(_Lacking(outcome_id, outcome.decision_id, outcome))
            self.background.wake()
        else:
            self._unlinked()

    async def _follow(self) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            await self.link()
        finally:
            if self._lacking:
                self.background.wake()


def _filled(outcome: Outcome, context: Context | None) -> Outcome:
    """With the decision's choice where neither agent nor model is named."""
    if context is None or outcome.agent_type is not None:
        return outcome
    return msgspec.structs.replace(outcome, agent_type=context.agent_type, model=context.model, effort=context.effort)


def _refusal(outcome: Outcome) -> InvalidInputError:
    return InvalidInputError(
        f"expected `agent_type` and `model`, because there is no decision {str(outcome.decision_id)[:80]!r} on record",
        path="$.decision_id",
    )
