"""The page's paths. Each view is a plain read; where the record is away it says so and shows what answers now."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from litestar import HttpMethod, Request, Response, post, route
from litestar.params import FromPath
from litestar.response import Template

from service.api.answers import AnyRequest, reading
from service.api.page.views import (
    FILTERS,
    PAGE,
    candidates_view,
    choices,
    decision_view,
    filter_of,
    listed,
    pairs,
    windows_of,
)
from service.api.page.visitors import (
    TooManyLoginsError,
    Visitors,
    came_by_tls,
    cookie_header,
    form_of,
    onward_of,
)
from service.api.query import one_of_each
from service.base.clock import utc_now
from service.base.ids import is_uuid
from service.contract.errors import InvalidInputError, NotFoundError, PointsmanError, StoreUnavailableError
from service.contract.problem import headers_of, problem_of
from service.contract.report import Report
from service.knowledge.knowledge import InUse
from service.observe.metrics import Metrics
from service.observe.report import DAYS, Question, question_of, report_of
from service.store import Store, StoredDecision

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: nothing is loaded from elsewhere, no script runs, nobody frames it."""

LOGIN_BYTES = 4096
"""Of a login's form."""

_FOLDER = Path(__file__).parent
_STYLE = (_FOLDER / "style.css").read_bytes()
_ICON = (_FOLDER / "icon.svg").read_bytes()
_STYLE_VERSION = hashlib.sha256(_STYLE).hexdigest()[:8]

Page = Template | Response[bytes]


class PageRoutes:
    """Five views, a style sheet, and a way in and out."""

    def __init__(
        self,
        in_use: InUse,
        store: Store,
        status: Callable[[], dict[str, Any]],
        visitors: Visitors,
        metrics: Metrics,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._in_use = in_use
        self._store = store
        self._status = status
        self._visitors = visitors
        self._metrics = metrics
        self._now = now
        refused: Any = {PointsmanError: self._refused}
        self.handlers = [
            *(
                route(path, http_method=[HttpMethod.GET, HttpMethod.HEAD], exception_handlers=refused)(view)
                for path, view in (
                    ("/", self.now),
                    ("/decisions", self.decisions),
                    ("/decisions/{decision_id:str}", self.decision),
                    ("/candidates", self.candidates),
                    ("/report", self.report),
                    ("/login", self.login),
                )
            ),
            post("/login", request_max_body_size=LOGIN_BYTES)(self.log_in),
            post("/logout", request_max_body_size=LOGIN_BYTES)(self.log_out),
            reading("/page/style.css")(self.style),
            reading("/page/icon.svg")(self.icon),
        ]

    async def now(self) -> Page:
        problem, told = "", None
        try:
            told = await self._store.decisions.newest_pools()
        except StoreUnavailableError as error:
            problem = str(error)
        told_with = {"told_by": told.decision_id, "told_at": told.decided_at} if told else {}
        return self._view("now.html", "/", {"problem": problem, "windows": windows_of(told, self._now()), **told_with})

    async def decisions(self, request: AnyRequest) -> Page:
        query = one_of_each(request.scope, FILTERS)
        wanted = filter_of(query)
        problem, found, older = "", list[StoredDecision](), None
        try:
            found, older = await self._store.decisions.search(wanted, limit=PAGE)
        except StoreUnavailableError as error:
            problem = str(error)
        asked = {**dict.fromkeys(FILTERS), **query}
        context = {"asked": asked, "problem": problem, **choices(self._in_use.knowledge), **listed(found, older, query)}
        return self._view("decisions.html", "/decisions", context, status=503 if problem else 200)

    async def decision(self, request: AnyRequest, decision_id: FromPath[str]) -> Page:
        stored = await self._store.decisions.get(decision_id) if is_uuid(decision_id) else None
        if stored is None:
            raise NotFoundError(f"there is no decision {decision_id[:80]!r}")
        outcomes = await self._store.outcomes.of_decision(decision_id)
        context = decision_view(stored, outcomes, request.headers.get("host", ""))
        return self._view("decision.html", "/decisions", context)

    async def candidates(self) -> Page:
        return self._view("candidates.html", "/candidates", {"candidates": candidates_view(self._in_use.knowledge)})

    async def report(self, request: AnyRequest) -> Page:
        query = one_of_each(request.scope, frozenset({"days", "baseline"}))
        question, problem, report = question_of(query), "", None
        known = question.baseline in pairs(self._in_use.knowledge)
        try:
            report = await self._reported(question, known=known)
        except StoreUnavailableError as error:
            problem = str(error)
        context: dict[str, Any] = {
            "asked": {"days": query.get("days") or f"{DAYS:g}", "baseline": question.baseline},
            "pairs": pairs(self._in_use.knowledge),
            "report": report,
            "problem": problem,
        }
        return self._view("report.html", "/report", context, status=503 if problem else 200)

    async def _reported(self, question: Question, *, known: bool) -> Report:
        """Without a baseline that is `known` but stands in no forecast of the span: it is new in the catalog."""
        try:
            return await report_of(self._store, question, self._now())
        except InvalidInputError:
            if not known:
                raise
        return await report_of(self._store, msgspec.structs.replace(question, baseline=None), self._now())

    async def login(self, request: AnyRequest) -> Page:
        query = one_of_each(request.scope, frozenset({"next"}))
        if not self._visitors.asks:
            return _onward("/")
        return self._login_form(onward_of(query.get("next", "/")))

    async def log_in(self, request: Request[Any, Any, Any]) -> Page:
        form = form_of(await request.body())
        onward = onward_of(form.get("next", "/"))
        if not self._visitors.asks:
            return _onward("/")
        try:
            session = await self._visitors.log_in(form.get("token", ""))
        except TooManyLoginsError:
            return self._login_form(onward, problem="Too many ask at once. Try again in a moment.", status=429)
        if session is None:
            return self._login_form(onward, problem="That is not the token.", status=403)
        return _onward(onward, cookie=cookie_header(session, secure=_by_tls(request)))

    async def log_out(self, request: Request[Any, Any, Any]) -> Page:
        return _onward("/login", cookie=cookie_header("", secure=_by_tls(request)))

    async def style(self) -> Response[bytes]:
        return Response(_STYLE, media_type="text/css", headers={**HEADERS, **_KEPT})

    async def icon(self) -> Response[bytes]:
        return Response(_ICON, media_type="image/svg+xml", headers={**HEADERS, **_KEPT})

    def _view(
        self,
        template: str,
        here: str,
        context: Mapping[str, Any],
        *,
        status: int = 200,
        open: bool = True,  # noqa: A002 - the template's word
    ) -> Template:
        shared = {
            "here": here,
            "status": self._status() if open else None,
            "open": open,
            "closed_to_others": self._visitors.asks,
            "style": _STYLE_VERSION,
        }
        return Template(
            template, context={**shared, **context}, status_code=status, headers=HEADERS, media_type="text/html"
        )

    def _login_form(self, onward: str, *, problem: str = "", status: int = 200) -> Template:
        return self._view("login.html", "", {"onward": onward, "problem": problem}, status=status, open=False)

    def _refused(self, request: AnyRequest, error: PointsmanError) -> Template:
        """In words, as a page."""
        problem = self._metrics.answered(problem_of(error, request_id=request.scope.get("request_id")))  # type: ignore[arg-type]
        shown = self._view(
            "problem.html", "", {"heading": problem.title, "detail": problem.detail}, status=problem.status
        )
        shown.headers = {**shown.headers, **headers_of(error)}
        return shown


_KEPT = {"Cache-Control": "max-age=3600"}


def _by_tls(request: Request[Any, Any, Any]) -> bool:
    return came_by_tls(request.scope["scheme"], dict(request.scope["headers"]))


def _onward(path: str, *, cookie: bytes = b"") -> Response[bytes]:
    """To another path, by GET."""
    headers = {**HEADERS, "Location": path, **({"Set-Cookie": cookie.decode()} if cookie else {})}
    return Response(b"", status_code=303, headers=headers, media_type="text/plain")
