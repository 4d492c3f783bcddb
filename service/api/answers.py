"""From a result or an error to a response; JSON is encoded once, here."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec
import structlog
from litestar import HttpMethod, Request, Response, route
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from service.contract.errors import PointsmanError
from service.contract.problem import MEDIA_TYPE, TYPES, URN, Problem, headers_of, problem_of, problem_of_status
from service.logs.lines import log_defect
from service.observe.metrics import Metrics

_ENCODER = msgspec.json.Encoder()

AnyRequest = Request[Any, Any, Any]

_DETAILS = {
    404: "There is nothing at this path.",
    405: "This path does not take that method.",
    413: "The body is over the limit that this service is set to.",
}


def reading(path: str) -> HTTPRouteHandler:
    """For GET, and for HEAD, which load balancers and monitors ask with."""
    return route(path, http_method=[HttpMethod.GET, HttpMethod.HEAD])


def json_response(value: object, *, status: int = 200) -> Response[bytes]:
    """`value` as JSON."""
    return Response(_ENCODER.encode(value), status_code=status, media_type="application/json")


class ErrorAnswers:
    """What the framework calls with each exception that a handler let through."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        for kind in TYPES:
            # From the start, at 0: a series that begins with its first 1 never shows an increase of 1.
            metrics.problems.labels(URN + kind)
        self._log = structlog.get_logger("pointsman.http")

    def of_core(self, request: AnyRequest, error: PointsmanError) -> Response[bytes]:
        return self._answer(problem_of(error, request_id=_facts(request).get("request_id")), headers_of(error))

    def of_http(self, request: AnyRequest, error: HTTPException) -> Response[bytes]:
        """The framework's own: no such route, no such method, too large, a query that does not fit."""
        facts, status = _facts(request), error.status_code
        if facts.get("client_left"):
            status, detail = 400, "The connection was closed before the body was complete."
        elif status >= 500:
            return self.of_any(request, error)
        else:
            detail = _DETAILS.get(status) or "The request cannot be read."
        headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
        return self._answer(problem_of_status(status, detail, request_id=facts.get("request_id")), headers)

    def of_any(self, request: AnyRequest, error: Exception) -> Response[bytes]:
        """A defect: logged with the place where it was raised, answered without its text."""
        log_defect(self._log, error, method=request.method)
        return self._answer(problem_of(error, request_id=_facts(request).get("request_id")), {})

    def _answer(self, problem: Problem, headers: Mapping[str, str]) -> Response[bytes]:
        body = _ENCODER.encode(self._metrics.answered(problem))
        return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def _facts(request: AnyRequest) -> dict[str, Any]:
    """What the edge put into the scope beside what ASGI has there."""
    return cast("dict[str, Any]", request.scope)
