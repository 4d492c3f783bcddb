"""The service's own OpenAPI document, made once from operations.toml and from the types that decode and encode; and a
page of it for people."""

import html
import re
from pathlib import Path
from typing import Any

import msgspec
from litestar import Response

from service import __version__
from service.api.answers import reading
from service.contract.decision import Decision
from service.contract.execution import ExecutionRequest
from service.contract.outcome import Outcome
from service.contract.problem import MEDIA_TYPE, TYPES, Problem
from service.contract.report import Report
from service.contract.task import Task

OPERATIONS = Path(__file__).with_name("operations.toml")

_ANYTHING = {"type": "object"}

_Schema = dict[str, Any]


class SchemaRoutes:
    """The document for programs, and a page of it for people."""

    def __init__(self) -> None:
        document = openapi_document()
        self._document = msgspec.json.encode(document)
        self._page = _page(document)
        self.handlers = [reading("/schema/openapi.json")(self.document), reading("/schema")(self.page)]

    async def document(self) -> Response[bytes]:
        return Response(self._document, media_type="application/json")

    async def page(self) -> Response[bytes]:
        return Response(self._page, media_type="text/html")


def openapi_document() -> dict[str, Any]:
    """OpenAPI 3.1, whose schemas are JSON Schema 2020-12, as msgspec writes them."""
    (task, decision, outcome, execution, problem, report), components = msgspec.json.schema_components(
        [Task, Decision, Outcome, ExecutionRequest, Problem, Report], ref_template="#/components/schemas/{name}"
    )
    components["Task"]["allOf"] = [_needs("model", "agent_type"), _needs("effort", "model")]
    components["Pair"]["allOf"] = [_needs("effort", "model")]
    components["Outcome"]["allOf"] = [
        *(_needs("model", "agent_type"), _needs("agent_type", "model"), _needs("effort", "model")),
        {"anyOf": [_told("model"), _told("decision_id")]},
    ]
    of_task = components["Task"]["properties"]
    recorded = _object(outcome_id={"type": "string"})
    recorded["properties"]["learned"] = {"const": False, "description": "The catalog has no such pair."}
    shared = {
        "fleet": {"anyOf": [{"type": "null"}, of_task["fleet"]]},
        "pools": {"anyOf": [{"type": "null"}, of_task["pools"]]},
        "objective": {"anyOf": [{"type": "null"}, {"enum": ["economy", "balanced", "quality"]}]},
        "delay_usd_per_hour": of_task["delay_usd_per_hour"],
        "verifier": of_task["verifier"],
        "deadline_ms": of_task["deadline_ms"],
    }
    schemas = {
        "task": task,
        "tasks": {**_object(tasks=_batch(task, 100), **shared), "required": ["tasks"]},
        "decision": decision,
        "decisions": _object(results=_list({"anyOf": [decision, problem]})),
        "log": _object(decisions=_list(_ANYTHING)),
        "outcome": outcome,
        "outcomes": _object(outcomes=_batch(outcome, 1000)),
        "recorded": recorded,
        "recordings": _object(results=_list({"anyOf": [recorded, problem]})),
        "execution": execution,
        "executions": _object(executions=_list(_ANYTHING)),
        "state": _object(execution_id={"type": "string"}, state={"type": "string"}),
        "report": report,
        "anything": _ANYTHING,
    }
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in msgspec.toml.decode(OPERATIONS.read_bytes(), type=dict[str, _Operation]).items():
        method, _, path = route.partition(" ")
        paths.setdefault(path, {})[method.lower()] = operation.document(path, schemas)
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


class _Operation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of operations.toml, which says what its keys mean."""

    summary: str
    body: str = ""
    answers: dict[str, str] = msgspec.field(default_factory=lambda: {"200": "anything"})
    query: dict[str, _Schema] = {}
    problems: set[int] = set()
    headers: tuple[str, ...] = ()

    def document(self, path: str, schemas: dict[str, _Schema]) -> dict[str, Any]:
        ids = re.findall(r"{(\w+)}", path)
        closed = path.startswith("/v1/")
        problems = {500, *self.problems}
        problems |= {401} if closed else set()
        problems |= {400, 413} if self.body else set()
        problems |= {400, 404} if ids else set()
        problems |= {400} if self.query else set()
        responses: dict[str, Any] = {str(s): {"$ref": f"#/components/responses/{s}"} for s in problems}
        headers = {name: {"schema": {"type": "string"}} for name in self.headers}
        for status, name in self.answers.items():
            media_type, schema = (name, {"type": "string"}) if "/" in name else ("application/json", schemas[name])
            responses[status] = {"description": self.summary, "content": {media_type: {"schema": schema}}}
            responses[status] |= {"headers": headers} if headers else {}
        operation: dict[str, Any] = {"summary": self.summary, "responses": dict(sorted(responses.items()))}
        if self.body:
            content = {"application/json": {"schema": schemas[self.body]}}
            operation["requestBody"] = {"required": True, "content": content}
        if ids or self.query:
            operation["parameters"] = [
                *(_parameter(name, "path", {"type": "string", "minLength": 1}) for name in ids),
                *(_parameter(name, "query", schema) for name, schema in self.query.items()),
            ]
        if not closed:
            operation["security"] = []
        return operation


def _parameter(name: str, place: str, schema: _Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _problem(schema: _Schema, status: int) -> dict[str, Any]:
    names = ", ".join(f"`{name}`" for name, its in TYPES.items() if its == status)
    return {"description": f"A problem document: {names}", "content": {MEDIA_TYPE: {"schema": schema}}}


def _told(field: str) -> _Schema:
    """Where the field is there and not null."""
    return {"properties": {field: {"type": "string"}}, "required": [field]}


def _needs(field: str, other: str) -> _Schema:
    """Where one is told, so is the other."""
    return {"if": _told(field), "then": _told(other)}


def _object(**properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _batch(item: _Schema, most: int) -> _Schema:
    """Whatever is not what it should be gets a problem document of its own, and the batch a 200."""
    wrong = {"description": "anything else is answered by a problem document in its place"}
    return {**_list({"anyOf": [item, wrong]}), "minItems": 1, "maxItems": most}


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
