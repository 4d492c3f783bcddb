"""The HTTP service in-process and as a process, and short ways to ask it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from opentelemetry.sdk.trace import SpanProcessor

from service.app import create_app
from service.contract.decoding import convert_tree
from service.contract.settings import Settings
from service.core import Core
from service.observe.tracing import Tracing
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.service_process import ServiceProcess

CLASSIFY = "/v1/classify"
SMALL_CATALOG = Path(__file__).parents[1] / "data" / "three_candidates.toml"
"""A real model on a shared processor reads what the prompt says of three candidates in a third of the time."""

CATALOG = SMALL_CATALOG.read_text()
"""Three candidates with round numbers: claude/opus, claude/haiku, gemini/flash."""


def settings_from(tree: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings of these sections; a database in memory and no CLI unless they say otherwise."""
    merged = {"store": {"url": "sqlite://"}, "cli": {"preset": ""}, **tree}
    return convert_tree(merged, Settings)


def with_model(fake: FakeEndpoint, **more: object) -> dict[str, Any]:
    """The `[local_model]` section for a fake endpoint."""
    return {"endpoint": fake.url, "model": "fake-model", **more}


@dataclass(frozen=True, slots=True)
class RunningApp:
    """A started application and a client for it, in the test's own event loop."""

    app: Litestar
    core: Core
    client: httpx.AsyncClient

    async def classify(self, instructions: str = "Fix the login", **fields: object) -> httpx.Response:
        """POSTs a task."""
        return await self.client.post(CLASSIFY, json={"instructions": instructions, **fields})

    async def decide(self, instructions: str = "Fix the login", **fields: object) -> dict[str, Any]:
        """The decision about a task; AssertionError where there is none."""
        response = await self.classify(instructions, **fields)
        assert response.status_code == 200, response.text
        decision: dict[str, Any] = response.json()
        return decision


OpenApp = Callable[..., Awaitable[RunningApp]]
"""`await open_app(server={...}, local_model={...}, catalog_text=…)`: started, and closed after the test."""


@pytest.fixture
async def open_app(tmp_path: Path) -> AsyncGenerator[OpenApp]:
    """Opens applications of any settings, with the catalog above unless `catalog_text` is another one; traced where
    something takes the `spans`.
    """
    async with AsyncExitStack() as stack:

        async def open_one(
            *, catalog_text: str = CATALOG, spans: SpanProcessor | None = None, **sections: Mapping[str, Any]
        ) -> RunningApp:
            file = tmp_path / "catalog.toml"
            file.write_text(catalog_text)
            settings = settings_from({"catalog": {"path": str(file)}, **sections})
            tracing = Tracing(settings, processor=spans) if spans else None
            app = create_app(settings, environ={}, tracing=tracing)
            stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()

            async def live() -> None:
                # The lifespan has to end in the task that began it, and a fixture's two halves run in two.
                async with app.lifespan():
                    started.set_result(None)
                    await stop.wait()

            async def end() -> None:
                stop.set()
                await living

            living = asyncio.create_task(live())
            await asyncio.wait({living, started}, return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                await living
            stack.push_async_callback(end)
            asgi: Any = app
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(asgi, raise_app_exceptions=True),
                base_url="http://pointsman.test",
                timeout=60.0,
            )
            await stack.enter_async_context(client)
            return RunningApp(app, app.state.core, client)

        yield open_one


@pytest.fixture
async def plain_app(open_app: OpenApp) -> RunningApp:
    """A service with three candidates and no classifier."""
    return await open_app()


OpenService = Callable[..., ServiceProcess]
"""`open_service(POINTSMAN_SERVER__TOKEN=…)`: a real process, started, and killed after the test."""


@pytest.fixture
def open_service(tmp_path: Path, bare_environ: Mapping[str, str]) -> Generator[OpenService]:
    """Starts `pointsman serve` with these variables beside a bare environment."""
    with ExitStack() as stack:
        started: list[ServiceProcess] = []

        def open_one(**environ: str) -> ServiceProcess:
            log = tmp_path / f"serve-{len(started)}.log"
            service = stack.enter_context(ServiceProcess({**bare_environ, **environ}, log))
            started.append(service)
            return service

        yield open_one


@pytest.fixture
def catalog_file(tmp_path: Path) -> Path:
    """The catalog with three candidates, as a file of the test's own."""
    file = tmp_path / "catalog.toml"
    file.write_text(CATALOG)
    return file
