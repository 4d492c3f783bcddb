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
from service.contract.decision import Advice, ForecastChoice, Step
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import Outcome
from service.logs.lines import log_defect
from service.store.decisions import DecisionTable, StoredDecision

SETTLE_SECONDS = 2.0
"""An outcome is looked at so long after it came: by then its decision is in the store, whichever replica made it."""

MAX_WAITING = 10_000
"""Outcomes that may wait to be compared; beyond it the oldest are left out of the figures."""

PAGE = 200
"""Decisions read at once: a few milliseconds of the event loop."""


class _Plan(msgspec.Struct, frozen=True):
    plan: list[Step] = []
    forecast_choice: ForecastChoice | None = None


class Differed(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt by the choice of a decision where a classifier and the forecast named different candidates."""

    classifier: str
    followed: bool
    """Whether the classifier's candidate was taken."""
    solved: bool


_PLAN = msgspec.json.Decoder(_Plan)


class Calibration:
    """Takes outcomes as they are recorded and compares them in the background, off the way of any request.

    An outcome counts where its `decision_id` is on record and its pair is a step of that decision's plan; the step's
    `p_solve` is conditional on every earlier one having failed, and so is the attempt that is reported.
    """

    def __init__(
        self,
        decisions: DecisionTable,
        compared: Callable[[Step, bool], None],
        differed: Callable[[Differed], None] = lambda _: None,
    ) -> None:
        """`compared` is told of each attempt: the step of the plan, and whether it solved the task; `differed` of those
        where classifier and forecast were not of one mind."""
        self._decisions = decisions
        self._compared = compared
        self._differed = differed
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
            stored = await self._decisions.get_many(sorted({str(outcome.decision_id) for outcome in page}))
            found = {one.decision_id: one for one in stored}
            for outcome in page:
                self._waiting.popleft()
                decision = found.get(str(outcome.decision_id))
                if decision is not None:
                    self._compare(outcome, decision)

    def _compare(self, outcome: Outcome, decision: StoredDecision) -> None:
        plan, pair = _plan_of(decision.decision), (outcome.agent_type, outcome.model)
        step = next((step for step in plan.plan if (step.agent_type, step.model) == pair), None)
        if step is None:
            return
        self._compared(step, outcome.solved)
        advice, alone = decision.advice, plan.forecast_choice
        if not isinstance(advice, Advice) or alone is None or step is not plan.plan[0]:
            return
        advised = (advice.agent_type, advice.model)
        if advised != (alone.agent_type, alone.model):
            source = advice.form.partition(":")[0]
            self._differed(Differed(classifier=source, followed=pair == advised, solved=outcome.solved))

    async def _follow(self) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            await self.compare()
        except StoreUnavailableError:
            self.background.wake()


def _plan_of(decision: msgspec.Raw) -> _Plan:
    """Empty where a newer version of the service wrote a plan of another shape."""
    try:
        return _PLAN.decode(decision)
    except msgspec.MsgspecError:
        return _Plan()
