"""What can be read: catalog, status, decisions."""

from typing import Any

from litestar import Response
from litestar.params import FromPath

from service.api.answers import AnyRequest, json_response, query_of, reading
from service.base.ids import is_uuid
from service.base.text import one_line
from service.contract.decoding import convert_tree
from service.contract.errors import InvalidInputError, NotFoundError
from service.core import Core
from service.observe.candidates import catalog_document
from service.store import StoredDecision

_MAX_PAGE = 500
_PARAMETERS = frozenset({"limit", "before", "task_id", "agent_type"})


def reading_routes(core: Core) -> list[Any]:
    """The handlers."""

    @reading("/v1/catalog")
    async def catalog() -> Response[bytes]:
        return json_response(catalog_document(core.pipeline.knowledge))

    @reading("/v1/status")
    async def status() -> Response[bytes]:
        return json_response(core.status())

    @reading("/v1/decisions")
    async def decisions(request: AnyRequest) -> Response[bytes]:
        query: dict[str, str] = {}
        for name, value in query_of(request):
            if name not in _PARAMETERS:
                shown = one_line(name, 80)
                raise InvalidInputError(f"expected one of {', '.join(sorted(_PARAMETERS))}", path=f"query {shown}")
            if name in query:
                raise InvalidInputError("expected it once", path=f"query {name}")
            query[name] = value
        limit = _limit(query.get("limit", "50"))
        before = query.get("before")
        if before is not None and not is_uuid(before):
            raise InvalidInputError("expected a decision_id", path="query before")
        found = await core.store.decisions(
            limit=limit, before=before, task_id=query.get("task_id"), agent_type=query.get("agent_type")
        )
        return json_response({"decisions": [_entry(stored) for stored in found]})

    @reading("/v1/decisions/{decision_id:str}")
    async def decision(decision_id: FromPath[str]) -> Response[bytes]:
        stored = await core.store.decision(decision_id) if is_uuid(decision_id) else None
        if stored is None:
            raise NotFoundError(f"there is no decision {decision_id[:80]!r}")
        outcomes = await core.store.outcomes_of(decision_id)
        return json_response({**_entry(stored), "explanation": stored.explanation, "outcomes": outcomes})

    return [catalog, status, decisions, decision]


def _entry(stored: StoredDecision) -> dict[str, Any]:
    """A decision as it was answered, and what it was made about."""
    return {
        "decided_at": stored.decided_at,
        "task_id": stored.task_id,
        "name": stored.name,
        "labels": stored.labels,
        "decision": stored.decision,
    }


def _limit(text: str) -> int:
    try:
        limit = convert_tree(text[:20], int, strict=False)
    except InvalidInputError:
        limit = 0
    if not 1 <= limit <= _MAX_PAGE:
        raise InvalidInputError(f"expected an integer from 1 to {_MAX_PAGE}", path="query limit")
    return limit
