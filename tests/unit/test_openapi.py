"""The OpenAPI document: it lists exactly the routes that exist, is valid, and says of answers what they are."""

import json
from typing import Any, cast

import jsonschema_rs
import pytest
from litestar.routes import HTTPRoute

from service.api.openapi import openapi_document
from service.contract.problem import TYPES
from tests.support.fake_behaviours import verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model

DOCUMENT = openapi_document()
BY_ITSELF = {"OPTIONS", "HEAD"}
"""Methods that come along with the others."""


def schema_of(path: str, method: str, status: int) -> dict[str, Any]:
    """The schema of an answer, with the components that it refers to."""
    response = DOCUMENT["paths"][path][method]["responses"][str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    (content,) = response["content"].values()
    return {**content["schema"], "components": DOCUMENT["components"]}


async def test_it_lists_exactly_the_routes_that_exist(open_app: OpenApp) -> None:
    """Each route and method stands in the document, and nothing that is not there; the page is for people."""
    plain_app = await open_app(server={"page": False})
    served: set[tuple[str, str]] = set()
    for route in plain_app.app.routes:
        methods: list[str] = list(route.methods) if isinstance(route, HTTPRoute) else []
        if not methods:  # the others are `posting`'s, which tell their methods only when they are asked
            methods = (await plain_app.client.options(route.path_format)).headers["allow"].split(", ")
        served |= {(route.path_format, method) for method in methods if method not in BY_ITSELF}
    listed = {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert listed == served


async def test_it_is_served_as_it_is(plain_app: RunningApp) -> None:
    """The document at /schema/openapi.json is this one, and the page for people lists every path."""
    response = await plain_app.client.get("/schema/openapi.json")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == json.loads(json.dumps(DOCUMENT))
    page = await plain_app.client.get("/schema")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert all(f"<code>{path}</code>" in page.text for path in DOCUMENT["paths"])
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_its_schemas_are_json_schema() -> None:
    """Every schema is valid JSON Schema 2020-12, which OpenAPI 3.1 uses, and every reference leads somewhere."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        assert name
    for reference in _references(DOCUMENT):
        target: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_each_problem_stands_in_it() -> None:
    """Every status that a problem document can have is a response component that names the problem types."""
    for kind, status in TYPES.items():
        assert f"`{kind}`" in DOCUMENT["components"]["responses"][str(status)]["description"]


def test_each_path_parameter_is_declared() -> None:
    """A path with a parameter declares it."""
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}


REQUESTS: dict[str, tuple[str, str, Any]] = {
    "decision": ("/v1/classify", "post", {"instructions": "Fix"}),
    "explained": ("/v1/classify", "post", {"instructions": "Fix", "explain": True}),
    "requested": ("/v1/classify", "post", {"instructions": "Fix", "agent_type": "claude", "model": "opus"}),
    "invalid": ("/v1/classify", "post", {"instructions": ""}),
    "nothing eligible": ("/v1/classify", "post", {"instructions": "Fix", "require": {"agent_types": []}}),
    "nothing available": (
        "/v1/classify",
        "post",
        {"instructions": "Fix", "fleet": {a: {"running": 1, "slots": 1} for a in ("claude", "gemini", "local")}},
    ),
    "batch": ("/v1/classify/batch", "post", {"tasks": [{"instructions": "Fix"}, {}]}),
    "outcome": ("/v1/outcomes", "post", {"agent_type": "claude", "model": "opus", "solved": True}),
    "outcomes": ("/v1/outcomes/batch", "post", {"outcomes": [{"agent_type": "c", "model": "o", "solved": True}, 7]}),
    "no such execution": ("/v1/executions/{execution_id}", "get", None),
    "no such decision": ("/v1/decisions/{decision_id}", "get", None),
    "no such outcome": ("/v1/outcomes/{outcome_id}", "delete", None),
    "decisions": ("/v1/decisions", "get", None),
    "catalog": ("/v1/catalog", "get", None),
    "status": ("/v1/status", "get", None),
    "healthz": ("/healthz", "get", None),
    "readyz": ("/readyz", "get", None),
}


@pytest.mark.parametrize(("path", "method", "body"), REQUESTS.values(), ids=REQUESTS)
async def test_answers_are_what_it_says(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, path: str, method: str, body: object
) -> None:
    """A real answer has a documented status and fits the schema that the document has for it."""
    fake_endpoint.always(verdict("claude", "opus"))
    app = await open_app(local_model=with_model(fake_endpoint))
    response = await app.client.request(method, path, json=body)
    jsonschema_rs.validate(schema_of(path, method, response.status_code), response.json())
    documented = DOCUMENT["paths"][path][method]["responses"][str(response.status_code)]
    for header in documented.get("headers", {}):
        assert header.lower() in response.headers


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        members = cast("dict[str, object]", node)
        own = members.get("$ref")
        found = [one for value in members.values() for one in _references(value)]
        return [own, *found] if isinstance(own, str) else found
    if isinstance(node, list):
        return [one for value in cast("list[object]", node) for one in _references(value)]
    return []
