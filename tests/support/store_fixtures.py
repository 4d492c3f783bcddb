"""Databases and what goes into them: a SQLite file and a PostgreSQL database for each test that asks."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.base.clock import utc_now
from service.base.ids import uuid7
from service.contract.decision import Decision, LoggedDecision, Step, Usage, Versions
from service.contract.outcome import Outcome
from service.store import Store, StoreLimits
from tests.support.postgres import UNAVAILABLE, PostgresServer, find_binaries

OpenStore = Callable[..., Awaitable[Store]]
"""`await open_store(url, **limits)`: started, and closed after the test."""


@pytest.fixture(scope="session")
def postgres_server() -> Generator[PostgresServer, None, None]:
    """One server for the whole run; a test that stops it starts it again."""
    if find_binaries() is None:
        pytest.skip(UNAVAILABLE)
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """The server's own database, for tests that only need something to talk to."""
    return postgres_server.url()


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Generator[str, None, None]:
    """The URL of a fresh, empty database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Each database in turn, fresh and empty."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_database"))


@pytest.fixture
async def open_store() -> AsyncGenerator[OpenStore, None]:
    """Opens stores, also several over one database, and closes them after the test."""
    async with AsyncExitStack() as stack:

        async def open_one(
            url: str,
            *,
            clock: Callable[[], datetime] = utc_now,
            **limits: Any,  # noqa: ANN401 - those of StoreLimits
        ) -> Store:
            store = Store(url, StoreLimits(**limits), clock=clock)
            stack.push_async_callback(store.aclose)
            await store.start()
            return store

        yield open_one


async def until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Waits until `condition` holds; `seconds` only guards against hanging for ever."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is outside of this process, or has no event
            await asyncio.sleep(0.01)


def a_decision(
    *, task_id: str | None = "task-1", agent_type: str = "claude", decision_id: str | None = None, prompt: str = "Fix."
) -> LoggedDecision:
    """A decision as the pipeline logs one."""
    return LoggedDecision(
        decided_at=datetime.now(UTC),
        task_id=task_id,
        name="Fix a typo",
        labels={"repo": "pointsman"},
        decision=Decision(
            decision_id=decision_id or uuid7(),
            agent_type=agent_type,
            model="m",
            reason="It is cheap and likely to do.",
            source="forecast",
            degraded=False,
            failures=[],
            confidence=None,
            p_solve=0.5,
            cost_usd=0.1,
            plan=[Step(agent_type=agent_type, model="m", p_solve=0.5, cost_usd=0.1)],
            plan_p_solve=0.5,
            plan_cost_usd=0.1,
            worthwhile=True,
            excluded=[],
            usage=Usage(),
            timings_ms={"total": 1.0},
            versions=Versions(catalog="c", prompt="p", service="s"),
        ),
        explanation={"prompt": prompt},
    )


def an_outcome(
    *,
    decision_id: str | None = None,
    attempt: int = 1,
    solved: bool = True,
    agent_type: str = "claude",
    labels: dict[str, str] | None = None,
    task_id: str | None = None,
) -> Outcome:
    """An outcome as a scheduler reports one."""
    return Outcome(
        agent_type=agent_type,
        model="m",
        solved=solved,
        decision_id=decision_id,
        attempt=attempt,
        cost_usd=0.25,
        labels=labels or {"repo": "pointsman"},
        task_id=task_id,
    )
