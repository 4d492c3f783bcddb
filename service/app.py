"""`create_app`: the one place where the HTTP service is put together, and `serve`, which runs it."""

import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from litestar import Litestar
from litestar.exceptions import HTTPException

from service.api.answers import ErrorAnswers
from service.api.classify import ClassifyRoutes
from service.api.edge import Edge
from service.api.executions import ExecutionRoutes
from service.api.health import HealthRoutes
from service.api.openapi import SchemaRoutes
from service.api.outcomes import OutcomeRoutes
from service.api.page.engine import template_config
from service.api.page.routes import PageRoutes
from service.api.page.visitors import Visitors
from service.api.reading import ReadingRoutes
from service.api.server import Server
from service.contract.errors import PointsmanError
from service.contract.settings import Settings
from service.core import Core
from service.logs.writer import LogWriter

if TYPE_CHECKING:
    from service.observe.tracing import Tracing


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    reread: Callable[[], Settings] | None = None,
    tracing: "Tracing | None" = None,
    log: LogWriter | None = None,
) -> Litestar:
    """The application. Raises ConfigurationError where catalog, prompts or a setting are wrong.

    `transport` takes the place of the network towards the local model; `environ` that of the process's environment.
    `config_file` is watched for changes, and `reread` then gives the settings anew. `tracing` takes the place of what
    `[tracing]` asks for. Of `log` the metrics tell what was dropped.
    """
    core = Core(
        settings,
        transport=transport,
        environ=environ,
        config_file=config_file,
        reread=reread,
        tracing=tracing,
        log=log,
    )
    answers = ErrorAnswers(core.metrics)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncGenerator[None]:
        try:
            await core.start(serve=True)
            yield
        finally:
            await core.aclose()

    limit = settings.server.max_body_bytes
    visitors = Visitors(settings.server.token) if settings.server.page else None
    handlers: Any = {
        PointsmanError: answers.of_core,
        HTTPException: answers.of_http,
        Exception: answers.of_any,
    }
    app = Litestar(
        route_handlers=[
            *ClassifyRoutes(core.decide, core.metrics, max_body_bytes=limit).handlers,
            *OutcomeRoutes(core.outcomes, core.metrics, max_body_bytes=limit).handlers,
            *ReadingRoutes(core.in_use, core.store, core.status).handlers,
            *ExecutionRoutes(
                core.executions, why_off=lambda: core.local_endpoint.no_agent, max_body_bytes=limit
            ).handlers,
            *HealthRoutes(lambda: core.ready, core.metrics).handlers,
            *SchemaRoutes().handlers,
            *(PageRoutes(core.in_use, core.store, core.status, visitors, core.metrics).handlers if visitors else []),
        ],
        template_config=template_config() if visitors else None,
        lifespan=[lifespan],
        exception_handlers=handlers,
        request_max_body_size=limit,
        openapi_config=None,
        logging_config=None,
    )
    app.state.core = core
    app.asgi_handler = Edge(
        app.asgi_handler,
        token=settings.server.token,
        metrics=core.metrics,
        leaving=lambda: core.leaving,
        visitors=visitors,
    )
    if core.tracing is not None:
        app.asgi_handler = core.tracing.wrap(app.asgi_handler)
    return app


def serve(app: Litestar, listener: socket.socket) -> None:
    """Answers on `listener` until SIGTERM or Ctrl-C, then ends what is under way in good order."""
    Server(app, app.state.core).run(sockets=[listener])
