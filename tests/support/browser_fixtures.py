"""Debian's chromium, driven by playwright, and what it may ask for: nothing beyond the service under test."""

import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Request, Route, async_playwright

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = Path(__file__).parents[2] / ".cache" / "screenshots"
"""Kept after the run, for people to look at."""

UNAVAILABLE = "needs chromium at /usr/bin/chromium (Debian: apt-get install chromium)"


class Visitor:
    """One browser window. `wrong` collects what must not happen: errors in its console, requests to another host."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context = context
        self.page = page
        self.url = url
        self.wrong: list[str] = []
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        page.on("request", self._asked)

    async def open(self, path: str) -> int:
        """Goes there; gives the status."""
        answer = await self.page.goto(self.url + path)
        assert answer is not None
        return answer.status

    async def broken_rules(self) -> list[str]:
        """What axe finds wrong with the page as it stands."""
        await self.page.evaluate(_axe())
        found: dict[str, Any] = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{rule['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    async def picture(self, name: str) -> None:
        """Keeps what it shows."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    async def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        wide: int = await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return wide

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.url + "/"):
            self.wrong.append(f"asked for {request.url}")


OpenVisitor = Callable[..., Awaitable[Visitor]]
"""`await open_visitor(url, scheme="dark", width=400)`: a window of its own, with no cookies."""


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    """A fresh one, with a profile of its own."""
    if not CHROMIUM.exists():  # noqa: ASYNC240 - a look at a name that is there or not
        pytest.skip(UNAVAILABLE)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        await browser.close()


@pytest.fixture
async def open_visitor(browser: Browser) -> AsyncGenerator[OpenVisitor]:
    """Opens windows; after the test nothing wrong may have happened in any of them."""
    async with AsyncExitStack() as stack:
        visitors: list[Visitor] = []

        async def open_one(url: str, *, scheme: Any = "light", width: int = 1280, **more: Any) -> Visitor:  # noqa: ANN401 - playwright's options
            context = await browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 900}, locale="en-GB", **more
            )
            stack.push_async_callback(context.close)

            async def kept_inside(route: Route) -> None:
                if route.request.url.startswith(url + "/"):
                    await route.continue_()
                else:
                    await route.abort()

            await context.route(re.compile(".*"), kept_inside)
            visitor = Visitor(context, await context.new_page(), url)
            visitors.append(visitor)
            return visitor

        yield open_one
        wrong = [line for visitor in visitors for line in visitor.wrong]
        assert wrong == []


def _axe() -> str:
    """The rules, from the package that carries them."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
