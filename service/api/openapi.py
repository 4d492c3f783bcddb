"""The service's own OpenAPI document, made once from the types that decode and encode; and a page of it for people."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
_ANYTHING = {"type": "object"}


class SchemaRoutes:
    """The document for programs, and a page of it for people."""

    def __init__(self) -> None:
        document = openapi_document()
        self._document = msgspec.json.encode(document)
        self._page = _page(document)
        self.handlers = [
            reading("/schema/openapi.json")(self.document),
            reading("/schema")(self.page),
        ]

    async def document(self) -> Response[bytes]:
        return Response(self._document, media_type="application/json")

    async def page(self) -> Response[bytes]:
        return Response(self._page, media_type="text/html")


def openapi_document() -> dict[str, Any]:
    """OpenAPI 3.1, whose schemas are JSON Schema 2020-12, as msgspec writes them."""
    (task, decision, outcome, execution, problem), components = msgspec.json.schema_components(
        [Task, Decision, Outcome, ExecutionRequest, Problem], ref_template="#/components/schemas/{name}"
    )
    components["Task"]["allOf"] = [_MODEL_NEEDS_AGENT]
    of_task = components["Task"]["properties"]
    tasks = _object(
        {
            "tasks": {"type": "array", "items": _each(task), "minItems": 1, "maxItems": 100},
            "fleet": {"anyOf": [{"type": "null"}, of_task["fleet"]]},
            "objective": {"anyOf": [{"type": "null"}, {"enum": ["economy", "balanced", "quality"]}]},
            "deadline_ms": of_task["deadline_ms"],
        },
        required=["tasks"],
    )
    outcomes = _object({"outcomes": {"type": "array", "items": _each(outcome), "minItems": 1, "maxItems": 1000}})
    recorded = _object({"outcome_id": {"type": "string"}})
    state = _object({"execution_id": {"type": "string"}, "state": {"type": "string"}})
    page = {
        "limit": {"type": "integer", "minimum": 1, "maximum": 500},
        "before": {"type": "string", "format": "uuid"},
        "task_id": {"type": "string"},
        "agent_type": {"type": "string"},
    }
    operations = [
        _Operation(
            "POST /v1/classify",
            "Which agent and model should handle this task, and what to try next",
            {200: decision},
            body=task,
            problems=(422, 502, 503, 504),
            headers=("X-Decision-Id", "X-Decision-Source", "X-Decision-Degraded"),
        ),
        _Operation(
            "POST /v1/classify/batch", "The same for up to 100 tasks", {200: _results(decision, problem)}, body=tasks
        ),
        _Operation(
            "POST /v1/outcomes",
            "What became of an attempt",
            {201: recorded, 200: recorded},
            body=outcome,
            problems=(409, 503),
        ),
        _Operation(
            "POST /v1/outcomes/batch",
            "The same for up to 1,000 attempts",
            {200: _results(recorded, problem)},
            body=outcomes,
            problems=(503,),
        ),
        _Operation(
            "DELETE /v1/outcomes/{outcome_id}",
            "Withdraws an outcome: nothing is learned from it any more",
            problems=(503,),
        ),
        _Operation(
            "GET /v1/decisions",
            "Decisions, newest first",
            {200: _object({"decisions": {"type": "array", "items": _ANYTHING}})},
            query=page,
            problems=(503,),
        ),
        _Operation(
            "GET /v1/decisions/{decision_id}", "One decision with its explanation and outcomes", problems=(503,)
        ),
        _Operation(
            "POST /v1/executions",
            "Runs a task on the local model itself",
            {202: state},
            body=execution,
            problems=(404, 503),
            headers=("Location",),
        ),
        _Operation("GET /v1/executions/{execution_id}", "What is known of an execution", problems=(503,)),
        _Operation("DELETE /v1/executions/{execution_id}", "Cancels it", {200: state}, problems=(503,)),
        _Operation(
            "GET /v1/executions/{execution_id}/stdout.log",
            "Its answer as stream-json lines",
            {200: "application/x-ndjson"},
            query={"follow": {"type": "string", "enum": ["true", "false"]}},
            problems=(503,),
        ),
        _Operation("GET /v1/catalog", "Every agent and model, with forecast numbers"),
        _Operation("GET /v1/status", "What answers now, and how it fares"),
        _Operation("GET /healthz", "The process answers"),
        _Operation("GET /readyz", "Started and not shutting down", {200: _ANYTHING, 503: _ANYTHING}),
        _Operation("GET /metrics", "Prometheus metrics", {200: "text/plain"}),
        _Operation("GET /schema", "This document, for people", {200: "text/html"}),
        _Operation("GET /schema/openapi.json", "This document"),
    ]
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        method, _, path = operation.route.partition(" ")
        paths.setdefault(path, {})[method.lower()] = operation.document()
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


@dataclass(frozen=True, slots=True)
class _Operation:
    """What can be asked: `answers` by status, each a JSON schema or the name of a type of text.

    Of the problems only those are told that do not follow from the rest: whatever can fail, lacks a token, or has a
    body, a query or an id in its path that can be wrong.
    """

    route: str
    summary: str
    answers: Mapping[int, Any] = field(default_factory=lambda: {200: _ANYTHING})
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict[str, Any])
    problems: Sequence[int] = ()
    headers: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        ids = re.findall(r"{(\w+)}", self.route)
        closed = "/v1/" in self.route
        problems = {500, *self.problems}
        problems |= {401} if closed else set()
        problems |= {400, 413} if self.body else set()
        problems |= {400, 404} if ids else set()
        problems |= {400} if self.query else set()
        responses: dict[int, Any] = {status: {"$ref": f"#/components/responses/{status}"} for status in problems}
        headers = {name: {"schema": {"type": "string"}} for name in self.headers}
        for status, schema in self.answers.items():
            text = isinstance(schema, str)
            content = {schema: {"schema": {"type": "string"}}} if text else {"application/json": {"schema": schema}}
            responses[status] = {
                "description": self.summary,
                "content": content,
                **({"headers": headers} if headers else {}),
            }
        parameters = [_parameter(name, "path", {"type": "string", "minLength": 1}) for name in ids]
        parameters += [_parameter(name, "query", schema) for name, schema in self.query.items()]
        body = {"required": True, "content": {"application/json": {"schema": self.body}}}
        return {
            "summary": self.summary,
            "responses": {str(status): responses[status] for status in sorted(responses)},
            **({"requestBody": body} if self.body else {}),
            **({"parameters": parameters} if parameters else {}),
            **({} if closed else {"security": []}),
        }


def _parameter(name: str, place: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _results(good: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    """The answer to a batch: for each item what it would get by itself."""
    return _object({"results": {"type": "array", "items": {"anyOf": [good, problem]}}})


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
