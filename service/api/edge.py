"""The outermost layer: request ids, the bearer token, one log line and the metrics of each request."""

import hmac
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.api.page.visitors import OPEN, VIEWS, Visitors
from service.api.posting import send_document
from service.base.ids import uuid7
from service.contract.problem import MEDIA_TYPE, problem_of_status
from service.logs.lines import BOUND
from service.observe.metrics import LABELS_KEPT, Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_OPEN = _QUIET | {"/schema", "/schema/openapi.json"}
"""Paths that need no token. All others do, known or not: the router takes `//v1/status` for `/v1/status`, so that a
rule about how a closed path begins could be talked past."""
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_ENCODER = msgspec.json.Encoder()


class Edge:
    """Wraps the application; what it refuses never reaches a handler, nor is its body read."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        metrics: Metrics,
        leaving: Callable[[], bool],
        visitors: Visitors | None = None,
    ) -> None:
        """While `leaving()` is true each answer closes its connection, so that the next one goes to another replica.

        `visitors` may look at the page with a cookie; None where there is no page.
        """
        self._app = app
        self._token = token.encode()
        self._metrics = metrics
        self._leaving = leaving
        self._visitors = visitors
        self._log = structlog.get_logger("pointsman.http")
        self._requests = lru_cache(LABELS_KEPT)(metrics.requests.labels)
        self._seconds = lru_cache(LABELS_KEPT)(metrics.request_seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        facts = cast("dict[str, Any]", scope)
        headers = dict(scope["headers"])
        request_id = _accepted(headers.get(b"x-request-id", b"")) or uuid7()
        status = 0

        async def watched() -> Any:  # noqa: ANN401 - one of many kinds of message
            message = await receive()
            if message["type"] == "http.disconnect":
                facts["client_left"] = True
            return message

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = cast("Any", message.get("headers", ()))
                close = [(b"connection", b"close")] if self._leaving() else []
                message["headers"] = [*given, (b"x-request-id", request_id.encode()), *close]
            await send(message)

        facts["request_id"] = request_id
        bound = BOUND.set({**BOUND.get(), "request_id": request_id})
        try:
            if self._token and scope["path"] not in _OPEN and not self._known(headers):
                await self._unknown(scope, headers, watched, stamped)
            else:
                await self._app(scope, watched, stamped)
        finally:
            self._account(facts, status or 500, time.perf_counter() - started)
            BOUND.reset(bound)

    def _known(self, headers: dict[bytes, bytes]) -> bool:
        """Constant-time, so that the time of a refusal does not tell how much of a guess was right."""
        scheme, _, given = headers.get(b"authorization", b"").strip().partition(b" ")
        return hmac.compare_digest(given.strip(), self._token) and scheme.lower() == b"bearer"

    async def _unknown(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        """Somebody without the token: may look at the page with a cookie, and is else refused or shown the way in."""
        facts = cast("dict[str, Any]", scope)
        path, visitors = facts["path"], self._visitors
        if visitors is None or not (path in OPEN or VIEWS.fullmatch(path)):
            await self._refuse(send, facts["request_id"])
        elif path in OPEN or (facts["method"] in {"GET", "HEAD"} and visitors.knows(headers.get(b"cookie", b""))):
            await self._app(scope, receive, send)
        else:
            onward = quote(f"{path}?{facts['query_string'].decode('latin-1')}".removesuffix("?"), safe="/")
            await send_document(send, 303, b"", b"text/plain", [(b"location", f"/login?next={onward}".encode())])

    async def _refuse(self, send: Send, request_id: str) -> None:
        problem = self._metrics.answered(
            problem_of_status(401, "Send `Authorization: Bearer <token>`.", request_id=request_id)
        )
        body = _ENCODER.encode(problem)
        await send_document(send, problem.status, body, MEDIA_TYPE.encode(), [(b"www-authenticate", b"Bearer")])

    def _account(self, scope: dict[str, Any], status: int, seconds: float) -> None:
        route = str(scope.get("path_template") or "unmatched")
        method = str(scope.get("method", ""))
        method = method if method in _METHODS else "other"
        self._requests(route, method, str(status)).inc()
        self._seconds(route).observe(seconds)
        if route not in _QUIET:
            self._log.info("answered", method=method, route=route, status=status, total_ms=round(seconds * 1000, 3))


def _accepted(given: bytes) -> str:
    """The caller's own request id, where it is fit for a header and a log line."""
    text = given.decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else ""
