"""What the store gives back."""

from datetime import datetime
from typing import Literal

import msgspec

from service.contract.decision import Decision
from service.contract.execution import ExecutionState
from service.contract.outcome import RecordedOutcome

Backend = Literal["sqlite", "postgresql", "memory"]

OPEN_STATES: tuple[ExecutionState, ...] = ("queued", "running")
"""The states that an execution can still leave."""


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether anything is being recorded now, and if not, why, in words that hold no password.

    `buffered` decisions wait to be written; `dropped` were lost since the start because the buffer was full, the
    decision could not be encoded, or the database was away at shutdown.
    """

    recording: bool
    problem: str | None
    buffered: int
    dropped: int
    backend: Backend


class StoredDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it was answered. `decision` and `explanation` are the JSON text that was written, so that what a
    newer version of the service wrote is passed on whole. `explanation` is set only where one decision is read.
    """

    decision_id: str
    decided_at: datetime
    task_id: str | None
    name: str
    labels: dict[str, str]
    decision: msgspec.Raw
    explanation: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def decoded(self) -> Decision:
        """The decision as a value; raises msgspec.ValidationError where a newer version wrote what is unknown here."""
        return _DECISION.decode(self.decision)


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one outcome that was handed in.

    `new`: written now. `same`: this very outcome was there already. `conflict`: another outcome is there for that
    attempt, and nothing was written. `outcome_id` is in each case the one that stands in the record.
    """

    outcome_id: str
    state: Literal["new", "same", "conflict"]


class OutcomeChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to outcomes after a cursor, oldest first; pass `cursor` next time. Empty: nothing more for now.

    An outcome without `withdrawn_at` is new. One with it must no longer be learned from; where its `seq` is above the
    cursor that was passed, it was withdrawn before it was ever given out, and there is nothing to take back.
    """

    cursor: int
    outcomes: list[RecordedOutcome]


_DECISION = msgspec.json.Decoder(Decision)
