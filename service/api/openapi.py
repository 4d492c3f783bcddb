"""The service's own OpenAPI document, made once from the types that decode and encode; and a page of it for people."""

import html
from typing import Any

import msgspec
from litestar import Response

from service import __version__
from service.api.answers import reading
from service.contract.decision import Decision
from service.contract.execution import ExecutionRequest
from service.contract.outcome import Outcome
from service.contract.problem import MEDIA_TYPE, TYPES, Problem
from service.contract.task import Task

_MODEL_NEEDS_AGENT = {
    "if": {"properties": {"model": {"type": "string"}}, "required": ["model"]},
    "then": {"properties": {"agent_type": {"type": "string"}}, "required": ["agent_type"]},
}
_TEMPLATE = "#/components/schemas/{name}"


def openapi_routes() -> list[Any]:
    """The handlers."""
    document = msgspec.json.encode(openapi_document())
    page = _page(openapi_document())

    @reading("/schema/openapi.json")
    async def openapi_json() -> Response[bytes]:
        return Response(document, media_type="application/json")

    @reading("/schema")
    async def schema_page() -> Response[bytes]:
        return Response(page, media_type="text/html")

    return [openapi_json, schema_page]


def openapi_document() -> dict[str, Any]:
    """OpenAPI 3.1, whose schemas are JSON Schema 2020-12, as msgspec writes them."""
    (task, decision, outcome, execution, problem), components = msgspec.json.schema_components(
        [Task, Decision, Outcome, ExecutionRequest, Problem], ref_template=_TEMPLATE
    )
    components["Task"]["allOf"] = [_MODEL_NEEDS_AGENT]
    answer = _object({"results": _list({"anyOf": [decision, problem]})})
    recorded = _object({"outcome_id": {"type": "string"}})
    task_batch = _object(
        {
            "tasks": {"type": "array", "items": _each(task), "minItems": 1, "maxItems": 100},
            "fleet": {"anyOf": [{"type": "null"}, components["Task"]["properties"]["fleet"]]},
            "objective": {"anyOf": [{"type": "null"}, {"enum": ["economy", "balanced", "quality"]}]},
            "deadline_ms": components["Task"]["properties"]["deadline_ms"],
        },
        required=["tasks"],
    )
    outcome_batch = _object(
        {"outcomes": {"type": "array", "items": _each(outcome), "minItems": 1, "maxItems": 1000}}, required=["outcomes"]
    )
    state = _object({"execution_id": {"type": "string"}, "state": {"type": "string"}})
    anything = {"type": "object"}
    an_id = {"name": "decision_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    paths: dict[str, Any] = {
        "/v1/classify": {
            "post": _operation(
                "Which agent and model should handle this task, and what to try next",
                body=task,
                answers={200: decision},
                problems=[400, 401, 413, 422, 500, 502, 503, 504],
                headers=["X-Decision-Id", "X-Decision-Source", "X-Decision-Degraded"],
            )
        },
        "/v1/classify/batch": {
            "post": _operation(
                "The same for up to 100 tasks", body=task_batch, answers={200: answer}, problems=[400, 401, 413, 500]
            )
        },
        "/v1/outcomes": {
            "post": _operation(
                "What became of an attempt",
                body=outcome,
                answers={201: recorded, 200: recorded},
                problems=[400, 401, 409, 413, 500, 503],
            )
        },
        "/v1/outcomes/batch": {
            "post": _operation(
                "The same for up to 1,000 attempts",
                body=outcome_batch,
                answers={200: _object({"results": _list({"anyOf": [recorded, problem]})})},
                problems=[400, 401, 413, 500, 503],
            )
        },
        "/v1/outcomes/{outcome_id}": {
            "delete": _operation(
                "Withdraws an outcome: nothing is learned from it any more",
                answers={200: anything},
                problems=[400, 401, 404, 500, 503],
                parameters=[{**an_id, "name": "outcome_id"}],
            )
        },
        "/v1/decisions": {
            "get": _operation(
                "Decisions, newest first",
                answers={200: _object({"decisions": _list(anything)})},
                problems=[400, 401, 500, 503],
                parameters=[
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}),
                    _query("before", {"type": "string", "format": "uuid"}),
                    _query("task_id", {"type": "string"}),
                    _query("agent_type", {"type": "string"}),
                ],
            )
        },
        "/v1/decisions/{decision_id}": {
            "get": _operation(
                "One decision with its explanation and outcomes",
                answers={200: anything},
                problems=[400, 401, 404, 500, 503],
                parameters=[an_id],
            )
        },
        "/v1/executions": {
            "post": _operation(
                "Runs a task on the local model itself",
                body=execution,
                answers={202: state},
                problems=[400, 401, 404, 413, 500, 503],
                headers=["Location"],
            )
        },
        "/v1/executions/{execution_id}": {
            "get": _operation(
                "What is known of an execution",
                answers={200: anything},
                problems=[400, 401, 404, 500, 503],
                parameters=[{**an_id, "name": "execution_id"}],
            ),
            "delete": _operation(
                "Cancels it",
                answers={200: state},
                problems=[400, 401, 404, 500, 503],
                parameters=[{**an_id, "name": "execution_id"}],
            ),
        },
        "/v1/executions/{execution_id}/stdout.log": {
            "get": _operation(
                "Its answer as stream-json lines",
                answers={},
                text="application/x-ndjson",
                problems=[400, 401, 404, 500, 503],
                parameters=[
                    {**an_id, "name": "execution_id"},
                    _query("follow", {"type": "string", "enum": ["true", "false"]}),
                ],
            )
        },
        "/v1/catalog": {
            "get": _operation(
                "Every agent and model, with forecast numbers", answers={200: anything}, problems=[401, 500]
            )
        },
        "/v1/status": {
            "get": _operation("What answers now, and how it fares", answers={200: anything}, problems=[401, 500])
        },
        "/healthz": {
            "get": _operation("The process answers", answers={200: anything}, problems=[500], open_to_all=True)
        },
        "/readyz": {
            "get": _operation(
                "Started and not shutting down",
                answers={200: anything, 503: anything},
                problems=[500],
                open_to_all=True,
            )
        },
        "/metrics": {
            "get": _operation("Prometheus metrics", answers={}, text="text/plain", problems=[500], open_to_all=True)
        },
        "/schema": {
            "get": _operation(
                "This document, for people", answers={}, text="text/html", problems=[500], open_to_all=True
            )
        },
        "/schema/openapi.json": {
            "get": _operation("This document", answers={200: anything}, problems=[500], open_to_all=True)
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pointsman",
            "version": __version__,
            "summary": "Which coding agent and model should handle a task, and what to try next if it fails.",
        },
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {str(status): _problem(problem, status) for status in sorted(set(TYPES.values()))},
        },
    }


def _operation(
    summary: str,
    *,
    answers: dict[int, Any],
    problems: list[int],
    body: Any = None,  # noqa: ANN401 - a JSON schema
    parameters: list[Any] | None = None,
    headers: list[str] | None = None,
    text: str | None = None,
    open_to_all: bool = False,
) -> dict[str, Any]:
    responses: dict[str, Any] = {str(status): {"$ref": f"#/components/responses/{status}"} for status in problems}
    for status, schema in answers.items():
        responses[str(status)] = {"description": summary, "content": {"application/json": {"schema": schema}}}
        if headers:
            responses[str(status)]["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    if text:
        responses["200"] = {"description": summary, "content": {text: {"schema": {"type": "string"}}}}
    operation: dict[str, Any] = {"summary": summary, "responses": dict(sorted(responses.items()))}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        operation["parameters"] = parameters
    if open_to_all:
        operation["security"] = []
    return operation


def _problem(schema: dict[str, Any], status: int) -> dict[str, Any]:
    names = ", ".join(f"`{name}`" for name, its in TYPES.items() if its == status)
    return {"description": f"A problem document: {names}", "content": {MEDIA_TYPE: {"schema": schema}}}


def _object(properties: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _each(item: dict[str, Any]) -> dict[str, Any]:
    """An item of a batch: whatever is not what it should be gets a problem document of its own, and the batch a 200."""
    return {"anyOf": [item, {"description": "anything else is answered by a problem document in its place"}]}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _page(document: dict[str, Any]) -> bytes:
    """One static page: no script, nothing loaded from elsewhere."""
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(operation['summary'])}</td></tr>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return (
        "<!doctype html><meta charset=utf-8><title>Pointsman</title>"
        "<style>body{font:16px system-ui;margin:2rem auto;max-width:60rem}td{padding:.3rem .8rem}</style>"
        f"<h1>Pointsman {html.escape(document['info']['version'])}</h1><p>{html.escape(document['info']['summary'])} "
        f'The whole of it: <a href="/schema/openapi.json">openapi.json</a>.</p><table>{rows}</table>'
    ).encode()
