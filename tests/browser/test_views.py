"""Each view of the page in a real browser: light and dark, wide and narrow, with nothing from another host."""

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.api.page.engine import named
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from tests.support.browser_fixtures import OpenVisitor
from tests.support.http_fixtures import OpenService
from tests.support.recorded_days import decided, record_days, told_pools
from tests.support.service_process import ServiceProcess

WIDE, NARROW = 1280, 400
WINDOWS = list(itertools.product(("light", "dark"), (WIDE, NARROW)))

CUT = "[...document.querySelectorAll('.scroll')].some(one => one.scrollWidth > one.clientWidth + 1)"
"""Whether a table has to be scrolled sideways."""


@pytest.fixture
async def busy_service(open_service: OpenService, tmp_path: Path) -> tuple[ServiceProcess, str]:
    """A service over a store of some days, and the id of one of its decisions."""
    url = f"sqlite:///{tmp_path / 'days.db'}"
    now = datetime.now(UTC)
    last = [told_pools(one, now) for one in await decided(3, days=0.01, until=now, seed=7)]
    ids = await record_days(url, 240, extra=last)
    return open_service(POINTSMAN_STORE__URL=url), ids[-3]


async def test_each_view_is_right_in_every_window(
    busy_service: tuple[ServiceProcess, str], open_visitor: OpenVisitor
) -> None:
    """No rule of accessibility is broken, nothing is wider than the window, no script, no request to another host; in
    a wide window no table has to be scrolled."""
    service, decision = busy_service
    strongest = named(load_catalog(DEFAULT_CATALOG).candidates[0])
    views = {
        "now": "/",
        "decisions": "/decisions",
        "decision": f"/decisions/{decision}",
        "candidates": "/candidates",
        "report": f"/report?baseline={strongest}",
    }
    broken: list[str] = []
    for scheme, width in WINDOWS:
        visitor = await open_visitor(service.url, scheme=scheme, width=width)
        for name, path in views.items():
            assert await visitor.open(path) == 200
            assert await visitor.page.locator("script").count() == 0
            assert await visitor.page.locator("h1").count() == 1
            await visitor.picture(f"{name}-{scheme}-{width}")
            broken += [f"{name} {scheme} {width}: {rule}" for rule in await visitor.broken_rules()]
            if await visitor.overflow() > 0:
                broken.append(f"{name} {scheme} {width}: {await visitor.overflow()} pixels too wide")
            if width == WIDE and await visitor.page.evaluate(CUT):
                broken.append(f"{name} {scheme} {width}: a table is cut")
    assert not broken, "\n".join(broken)
