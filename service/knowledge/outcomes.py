"""The one way in for outcomes, from HTTP and from the command line."""

from collections.abc import Callable, Sequence

from service.base.ids import is_uuid
from service.contract.outcome import Outcome
from service.knowledge.calibration import Calibration
from service.knowledge.learner import Learner
from service.store.outcomes import OutcomeTable, Recording


class Outcomes:
    """Records outcomes and tells of each new one: it is counted, compared with the forecast, and learned from."""

    def __init__(
        self, table: OutcomeTable, learner: Learner, calibration: Calibration, counted: Callable[[Outcome], None]
    ) -> None:
        self._table = table
        self._learner = learner
        self._calibration = calibration
        self._counted = counted

    async def record(self, outcomes: Sequence[Outcome]) -> list[Recording]:
        """Durable when this returns; one answer for each, in order.

        Raises StoreUnavailableError, and then none was recorded.
        """
        recordings = await self._table.record(outcomes) if outcomes else []
        for outcome, recording in zip(outcomes, recordings, strict=True):
            if recording.state == "new":
                self._counted(outcome)
                self._calibration.recorded(outcome)
        self._learner.nudge()
        return recordings

    async def withdraw(self, outcome_id: str) -> bool:
        """Nothing is learned from it any more; False where there never was one. Raises StoreUnavailableError."""
        if not is_uuid(outcome_id) or not await self._table.withdraw(outcome_id):
            return False
        self._learner.nudge()
        return True
