"""Whether the forecast keeps its word: the chance that a decision gave an attempt, against what became of it."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice

import msgspec
import structlog

from service.base.background import Background
from service.base.ids import is_uuid
from service.contract.decision import Step
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import Outcome
from service.logs.lines import log_defect
from service.store.decisions import DecisionTable

SETTLE_SECONDS = 2.0
"""An outcome is looked at so long after it came: by then its decision is in the store, whichever replica made it."""

MAX_WAITING = 10_000
"""Outcomes that may wait to be compared; beyond it the oldest are left out of the figures."""

PAGE = 200
"""Decisions read at once: a few milliseconds of the event loop."""


class _Plan(msgspec.Struct, frozen=True):
    plan: list[Step]


_PLAN = msgspec.json.Decoder(_Plan)


class Calibration:
    """Takes outcomes as they are recorded and compares them in the background, off the way of any request.

    An outcome counts where its `decision_id` is on record and its pair is a step of that decision's plan; the step's
    `p_solve` is conditional on every earlier one having failed, and so is the attempt that is reported.
    """

    def __init__(self, decisions: DecisionTable, compared: Callable[[Step, bool], None]) -> None:
        """`compared` is told of each attempt: the step of the plan, and whether it solved the task."""
        self._decisions = decisions
        self._compared = compared
        self._waiting: deque[Outcome] = deque(maxlen=MAX_WAITING)
        log = structlog.get_logger("pointsman.calibration")
        self.background = Background(self._follow, every_seconds=None, defect=partial(log_defect, log))

    def recorded(self, outcome: Outcome) -> None:
        """A new outcome is on record. Never waits."""
        if outcome.decision_id is not None and is_uuid(outcome.decision_id):
            self._waiting.append(outcome)
            self.background.wake()

    async def compare(self) -> None:
        """Compares all that waits. Raises StoreUnavailableError; what was not compared by then still waits."""
        while self._waiting:
            page = list(islice(self._waiting, PAGE))
            plans = await self._plans({str(outcome.decision_id) for outcome in page})
            for outcome in page:
                self._waiting.popleft()
                pair = (outcome.agent_type, outcome.model)
                planned = plans.get(str(outcome.decision_id), [])
                step = next((step for step in planned if (step.agent_type, step.model) == pair), None)
                if step is not None:
                    self._compared(step, outcome.solved)

    async def _plans(self, decision_ids: set[str]) -> dict[str, list[Step]]:
        found = await self._decisions.get_many(sorted(decision_ids))
        return {stored.decision_id: _plan_of(stored.decision) for stored in found}

    async def _follow(self) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            await self.compare()
        except StoreUnavailableError:
            self.background.wake()


def _plan_of(decision: msgspec.Raw) -> list[Step]:
    """Empty where a newer version of the service wrote a plan of another shape."""
    try:
        return _PLAN.decode(decision).plan
    except msgspec.MsgspecError:
        return []
