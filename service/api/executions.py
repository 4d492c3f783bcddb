"""`POST /v1/executions` and what can be seen of an execution."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar import HttpMethod, Response, delete, route
from litestar.params import FromPath
from litestar.response import Stream

from service.api.answers import AnyRequest, json_response, reading
from service.api.posting import Answer, Posted, posting
from service.api.query import page_of, query_of
from service.base.ids import is_uuid
from service.contract.decoding import decode_json
from service.contract.errors import InvalidInputError, LocalAgentOffError, NotFoundError
from service.contract.execution import Execution, ExecutionRequest
from service.executions.executions import Executions

_REQUEST = msgspec.json.Decoder(ExecutionRequest)
_LINES = "application/x-ndjson"
_AS_IT_COMES = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Proxies pass on what there is, and keep nothing."""
_INTERNAL = ("owner", "seen_at", "request_digest")


class ExecutionRoutes:
    """Each answers 404 `local-agent-off` where no `executions` are there, and none is taken while no agent is."""

    def __init__(self, executions: Executions | None, *, why_off: Callable[[], str], max_body_bytes: int) -> None:
        """`why_off` says in words why there is no agent `local` now; nothing where there is one."""
        self._there = executions
        self._why_off = why_off
        one = "/v1/executions/{execution_id:str}"
        self.handlers = [
            posting("/v1/executions", self.create, max_body_bytes, reads=self.newest),
            route(one, http_method=HttpMethod.OPTIONS, status_code=204)(self.options),
            reading(one)(self.read),
            delete(one, status_code=200)(self.cancel),
            reading(f"{one}/stdout.log")(self.log),
        ]

    @property
    def _executions(self) -> Executions:
        if self._there is None:
            raise LocalAgentOffError(self._why_off())
        return self._there

    async def create(self, posted: Posted) -> Answer:
        executions = self._executions
        if why := self._why_off():
            raise LocalAgentOffError(why)
        execution = await executions.create(decode_json(posted.take(), _REQUEST))
        location = f"/v1/executions/{execution.execution_id}"
        return Answer.of(_short(execution), status=202, headers=[(b"location", location.encode())])

    async def newest(self, scope: Mapping[str, Any]) -> Answer:
        """Newest first, as they are now."""
        page = page_of(scope, of="an execution_id", filters=("task_id",))
        return Answer.of({"executions": [_known(execution) for execution in await self._executions.newest(**page)]})

    async def options(self, execution_id: FromPath[str]) -> Response[None]:  # noqa: ARG002 - the path has it
        """The framework's own one knows only the handler that stands first at a path."""
        return Response(None, headers={"Allow": "DELETE, GET, HEAD, OPTIONS"})

    async def read(self, execution_id: FromPath[str]) -> Response[bytes]:
        """What is kept of it, and once it has ended what it came to, where its log is still here."""
        executions = self._executions
        execution = await executions.get(_checked(execution_id))
        document = _known(execution)
        summary = await executions.summary(execution_id) if execution.ended_at is not None else None
        if summary is not None:
            document |= {"text": summary.text, "report": summary.report}
        return json_response(document)

    async def cancel(self, execution_id: FromPath[str]) -> Response[bytes]:
        return json_response(_short(await self._executions.cancel(_checked(execution_id))))

    async def log(self, request: AnyRequest, execution_id: FromPath[str]) -> Response[bytes] | Stream:
        executions = self._executions
        execution = await executions.get(_checked(execution_id))
        begun = executions.logs.path(execution_id).exists()
        to_come = _follows(request) and (execution.state == "queued" or executions.runs_here(execution_id))
        if not begun and not to_come:
            what = "has not begun" if execution.state == "queued" else "was rotated out, or lies with another replica"
            raise NotFoundError(f"the log of {execution_id} {what}")
        lines = executions.log(execution_id, follow=_follows(request))
        return Stream(lines, media_type=_LINES, headers=_AS_IT_COMES)


def _checked(execution_id: str) -> str:
    """The id, where it is one: it becomes part of a path."""
    if not is_uuid(execution_id):
        raise NotFoundError(f"there is no execution {execution_id[:80]!r}")
    return execution_id


def _follows(request: AnyRequest) -> bool:
    given = dict(query_of(request.scope)).get("follow", "false")
    if given not in {"true", "false"}:
        raise InvalidInputError("expected true or false", path="query follow")
    return given == "true" and request.method == "GET"


def _known(execution: Execution) -> dict[str, Any]:
    """What is kept of it, but for what is the service's own affair."""
    return {name: value for name, value in msgspec.structs.asdict(execution).items() if name not in _INTERNAL}


def _short(execution: Execution) -> dict[str, Any]:
    return {"execution_id": execution.execution_id, "state": execution.state}
