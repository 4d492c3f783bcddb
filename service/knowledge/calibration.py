"""Whether the forecast keeps its word: the chance that a decision gave an attempt, against what became of it."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from service.base.ids import is_uuid
from service.contract.decision import Step
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import Outcome
from service.logs.lines import log_defect
from service.store import Store

SETTLE_SECONDS = 2.0
"""An outcome is looked at so long after it came: by then its decision is in the store, whichever replica made it."""

MAX_WAITING = 10_000
"""Outcomes that may wait to be compared; beyond it the oldest are left out of the figures."""

PAGE = 200
"""Decisions read at once: a few milliseconds of the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One attempt of a decision's plan: the chance that it was given (0 to 1), and whether it solved the task."""

    agent_type: str
    model: str
    p_solve: float
    solved: bool


class _Plan(msgspec.Struct, frozen=True):
    plan: list[Step]


_PLAN = msgspec.json.Decoder(_Plan)


class Calibration:
    """Takes outcomes as they are recorded and compares them in the background, off the way of any request.

    An outcome counts where its `decision_id` is on record and its pair is a step of that decision's plan; the step's
    `p_solve` is conditional on every earlier one having failed, and so is the attempt that is reported.
    """

    def __init__(
        self, store: Store, compared: Callable[[Compared], None], *, settle_seconds: float = SETTLE_SECONDS
    ) -> None:
        self._store = store
        self._compared = compared
        self._settle_seconds = settle_seconds
        self._waiting: deque[Outcome] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("pointsman.calibration")

    def start(self) -> None:
        """Begins to compare."""
        self._task = asyncio.create_task(self._follow())

    async def aclose(self) -> None:
        """Stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def recorded(self, outcome: Outcome) -> None:
        """A new outcome is on record. Never waits."""
        if outcome.decision_id is not None and is_uuid(outcome.decision_id):
            self._waiting.append(outcome)
            self._arrived.set()

    async def compare(self) -> None:
        """Compares all that waits. Raises StoreUnavailableError; what was not compared by then still waits."""
        while self._waiting:
            page = [self._waiting[index] for index in range(min(PAGE, len(self._waiting)))]
            plans = await self._plans({str(outcome.decision_id) for outcome in page})
            for outcome in page:
                self._waiting.popleft()
                for step in plans.get(str(outcome.decision_id), ()):
                    if (step.agent_type, step.model) == (outcome.agent_type, outcome.model):
                        self._compared(
                            Compared(
                                agent_type=step.agent_type,
                                model=step.model,
                                p_solve=min(1.0, max(0.0, step.p_solve)),
                                solved=outcome.solved,
                            )
                        )
                        break

    async def _plans(self, decision_ids: set[str]) -> dict[str, list[Step]]:
        found = await self._store.decisions.get_many(sorted(decision_ids))
        return {stored.decision_id: _plan_of(stored.decision) for stored in found}

    async def _follow(self) -> None:
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._settle_seconds)
            self._arrived.clear()
            try:
                await self.compare()
            except StoreUnavailableError:
                self._arrived.set()
            except Exception as error:  # noqa: BLE001 - a defect here must not end all comparing, and is logged
                log_defect(self._log, error)


def _plan_of(decision: msgspec.Raw) -> list[Step]:
    """Empty where a newer version of the service wrote a plan of another shape."""
    try:
        return _PLAN.decode(decision).plan
    except msgspec.MsgspecError:
        return []
