"""Decisions on their way into the database: taken off the hot path and written in batches."""

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from service.contract.decision import LoggedDecision
from service.contract.errors import StoreUnavailableError
from service.store.facts import KeptRequest, facts_of_decision, kept_request, request_text
from service.store.schema import storable, storable_or_none

BATCH_ROWS = 500
BATCH_BYTES = 4 << 20

_log = logging.getLogger(__name__)


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, ready to be written: the columns, and those two beside them that are JSON and may be long."""

    short: dict[str, Any]
    body: bytes
    explanation: bytes
    request: KeptRequest | None
    """Written as JSON only with the row: on the way of a request that would be once more."""
    size: int
    """Bytes that it holds, near enough."""

    def columns(self) -> dict[str, Any]:
        """An explanation is rarely read and half of the whole, so that it is kept compressed; an older version of the
        service, which may read it during an update, finds an empty one.
        """
        packed = zlib.compress(self.explanation)
        texts = {"body": self.body.decode(), "explanation": "{}", "request": request_text(self.request)}
        return {**self.short, **texts, "packed": packed}


class DecisionBuffer:
    """Bounded in rows and in bytes; when it is full the oldest decision goes, and is counted in `dropped`."""

    def __init__(
        self,
        insert: Callable[[list[DecisionRow]], Awaitable[None]],
        filled: Callable[[], None],
        *,
        max_rows: int,
        max_bytes: int,
        keep_instructions: bool = False,
    ) -> None:
        """`insert` writes a batch, or raises StoreUnavailableError; `filled` is told when something waits again."""
        self.dropped = 0
        self._insert = insert
        self._filled = filled
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._keep_instructions = keep_instructions
        self._rows: deque[DecisionRow] = deque()
        self._bytes = 0
        self._flushing = asyncio.Lock()
        # How many at the head of the queue are being written now, so that they are removed by count and not by value.
        self._in_flight = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, logged: LoggedDecision) -> None:
        """Encodes at once, so that the size is known and a later change of a dict inside does no harm. Never raises."""
        try:
            row = _row(logged, keep_instructions=self._keep_instructions)
        except Exception:  # noqa: BLE001 - what cannot be written down (half a surrogate pair) costs nobody an answer
            self.dropped += 1
            _log.exception("a decision cannot be logged")
            return
        self._rows.append(row)
        self._bytes += row.size
        while len(self._rows) > 1 and (len(self._rows) > self._max_rows or self._bytes > self._max_bytes):
            self._bytes -= self._rows.popleft().size
            self._in_flight = max(0, self._in_flight - 1)
            self.dropped += 1
        if len(self._rows) == 1:
            self._filled()

    async def flush(self) -> None:
        """Writes what was there when it was called; raises StoreUnavailableError, and keeps what was not written."""
        async with self._flushing:
            left = len(self._rows)
            while left > 0 and self._rows:
                batch = self._batch()
                self._in_flight = len(batch)
                await self._insert(batch)
                for _ in range(self._in_flight):
                    self._bytes -= self._rows.popleft().size
                self._in_flight = 0
                left -= len(batch)

    async def aclose(self, timeout_seconds: float) -> None:
        """Writes what is left, if it can within `timeout_seconds`; what it cannot is counted as dropped."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.flush()
        except (StoreUnavailableError, TimeoutError) as error:
            if self._rows:
                _log.warning("%d decisions are lost at shutdown: %s", len(self._rows), str(error) or "too slow")
        self.dropped += len(self._rows)
        self._rows.clear()
        self._bytes = 0

    def _batch(self) -> list[DecisionRow]:
        batch: list[DecisionRow] = []
        size = 0
        for row in self._rows:
            if batch and (len(batch) == BATCH_ROWS or size + row.size > BATCH_BYTES):
                break
            batch.append(row)
            size += row.size
        return batch


def _row(logged: LoggedDecision, *, keep_instructions: bool) -> DecisionRow:
    decision = logged.decision
    body = _ENCODER.encode(
        {"name": logged.name, "labels": logged.labels, "known": logged.known, "decision": decision.document}
    )
    # It has a column of its own: a listing never reads it, and it may be a hundred times as long as the rest.
    explanation = _ENCODER.encode(logged.explanation)
    request = kept_request(logged, keep_instructions=keep_instructions)
    text = len(request.task.instructions) if request else 0
    return DecisionRow(
        short={
            "decision_id": decision.decision_id,
            "decided_at": logged.decided_at,
            "task_id": storable_or_none(logged.task_id),
            "agent_type": storable(decision.agent_type),
            "model": storable(decision.model),
            "source": decision.source,
            "degraded": decision.degraded,
            **facts_of_decision(logged),
        },
        body=body,
        explanation=explanation,
        request=request,
        size=len(body) + len(explanation) + text + 1000,
    )


_ENCODER = msgspec.json.Encoder(enc_hook=str)
