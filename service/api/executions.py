"""`POST /v1/executions` and what can be seen of an execution."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import HttpMethod, Response, delete, route
from litestar.params import FromPath
from litestar.response import Stream

from service.api.answers import AnyRequest, json_response, query_of, reading
from service.api.posting import Answer, Posted, posting
from service.base.ids import is_uuid
from service.contract.decoding import decode_json
from service.contract.errors import InvalidInputError, LocalAgentOffError, NotFoundError
from service.contract.execution import Execution, ExecutionRequest
from service.core import Core
from service.executions.executions import Executions
from service.executions.log_folder import CHUNK

_REQUEST = msgspec.json.Decoder(ExecutionRequest)
_LINES = "application/x-ndjson"
_AS_IT_COMES = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Proxies pass on what there is, and keep nothing."""
_INTERNAL = ("owner", "seen_at")


def execution_routes(core: Core) -> list[Any]:
    """The handlers; each a 404 `local-agent-off` where no endpoint is set."""

    @posting("/v1/executions", max_body_bytes=core.settings.server.max_body_bytes)
    async def create(posted: Posted) -> Answer:
        executions = _executions(core)
        execution = await executions.create(decode_json(posted.take(), _REQUEST))
        location = f"/v1/executions/{execution.execution_id}"
        return Answer.of(_short(execution), status=202, headers=[(b"location", location.encode())])

    @route("/v1/executions/{execution_id:str}", http_method=HttpMethod.OPTIONS, status_code=204)
    async def options(execution_id: FromPath[str]) -> Response[None]:  # noqa: ARG001 - the path has it
        """The framework's own one knows only the handler that stands first at a path."""
        return Response(None, headers={"Allow": "DELETE, GET, HEAD, OPTIONS"})

    @reading("/v1/executions/{execution_id:str}")
    async def read(execution_id: FromPath[str]) -> Response[bytes]:
        executions = _executions(core)
        execution = await executions.get(_checked(execution_id))
        return json_response(await _document(executions, execution))

    @delete("/v1/executions/{execution_id:str}", status_code=200)
    async def cancel(execution_id: FromPath[str]) -> Response[bytes]:
        return json_response(_short(await _executions(core).cancel(_checked(execution_id))))

    @reading("/v1/executions/{execution_id:str}/stdout.log")
    async def log(request: AnyRequest, execution_id: FromPath[str]) -> Response[bytes] | Stream:
        executions = _executions(core)
        execution = await executions.get(_checked(execution_id))
        begun = executions.logs.path(execution_id).exists()
        to_come = _follows(request) and (execution.state == "queued" or executions.runs_here(execution_id))
        if not begun and not to_come:
            what = "has not begun" if execution.state == "queued" else "was rotated out, or lies with another replica"
            raise NotFoundError(f"the log of {execution_id} {what}")
        lines = executions.follow(execution_id) if _follows(request) else _whole(executions, execution_id)
        return Stream(lines, media_type=_LINES, headers=_AS_IT_COMES)

    return [create, options, read, cancel, log]


def _executions(core: Core) -> Executions:
    if core.executions is None:
        raise LocalAgentOffError("no endpoint is set (local_model.endpoint), so there is no agent `local` to run it")
    return core.executions


def _checked(execution_id: str) -> str:
    """The id, where it is one: it becomes part of a path."""
    if not is_uuid(execution_id):
        raise NotFoundError(f"there is no execution {execution_id[:80]!r}")
    return execution_id


def _follows(request: AnyRequest) -> bool:
    given = dict(query_of(request)).get("follow", "false")
    if given not in {"true", "false"}:
        raise InvalidInputError("expected true or false", path="query follow")
    return given == "true" and request.method == "GET"


def _short(execution: Execution) -> dict[str, Any]:
    return {"execution_id": execution.execution_id, "state": execution.state}


async def _document(executions: Executions, execution: Execution) -> dict[str, Any]:
    """What is kept of it, and once it has ended what it came to, where its log is still here."""
    document: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(execution).items() if name not in _INTERNAL
    }
    summary = await executions.summary(execution.execution_id) if execution.ended_at is not None else None
    if summary is not None:
        document |= {"text": summary.text, "report": summary.report}
    return document


async def _whole(executions: Executions, execution_id: str) -> AsyncGenerator[bytes]:
    """The log as it is now."""
    file = executions.logs.reader(execution_id)
    if file is None:
        return
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
