"""What can be read: catalog, status, decisions."""

from collections.abc import Callable
from typing import Any

from litestar import Response
from litestar.params import FromPath

from service.api.answers import AnyRequest, json_response, reading
from service.api.query import one_of_each, page_of
from service.base.clock import utc_now
from service.base.ids import is_uuid
from service.contract.errors import NotFoundError
from service.knowledge.knowledge import InUse
from service.observe.candidates import catalog_document
from service.observe.report import question_of, report_of
from service.store import Store, StoredDecision

_OF_REPORT = frozenset({"days", "baseline"})


class ReadingRoutes:
    """GET only: nothing here changes anything."""

    def __init__(self, in_use: InUse, store: Store, status: Callable[[], dict[str, Any]]) -> None:
        self._in_use = in_use
        self._store = store
        self._status = status
        self.handlers = [
            reading("/v1/catalog")(self.catalog),
            reading("/v1/status")(self.status),
            reading("/v1/decisions")(self.decisions),
            reading("/v1/decisions/{decision_id:str}")(self.decision),
            reading("/v1/report")(self.report),
        ]

    async def catalog(self) -> Response[bytes]:
        return json_response(catalog_document(self._in_use.knowledge))

    async def status(self) -> Response[bytes]:
        return json_response(self._status())

    async def decisions(self, request: AnyRequest) -> Response[bytes]:
        page = page_of(request.scope, of="a decision_id", filters=("task_id", "agent_type"))
        found = await self._store.decisions.newest(**page)
        return json_response({"decisions": [_entry(stored) for stored in found]})

    async def decision(self, decision_id: FromPath[str]) -> Response[bytes]:
        stored = await self._store.decisions.get(decision_id) if is_uuid(decision_id) else None
        if stored is None:
            raise NotFoundError(f"there is no decision {decision_id[:80]!r}")
        outcomes = await self._store.outcomes.of_decision(decision_id)
        return json_response({**_entry(stored), "explanation": stored.explanation, "outcomes": outcomes})

    async def report(self, request: AnyRequest) -> Response[bytes]:
        question = question_of(one_of_each(request.scope, _OF_REPORT))
        return json_response(await report_of(self._store, question, utc_now()))


def _entry(stored: StoredDecision) -> dict[str, Any]:
    """A decision as it was answered, and what it was made about."""
    return {
        "decided_at": stored.decided_at,
        "task_id": stored.task_id,
        "name": stored.name,
        "labels": stored.labels,
        "decision": stored.decision,
    }
