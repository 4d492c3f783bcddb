"""Executions over a store and a fake endpoint, without HTTP before them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.contract.execution import Execution, ExecutionRequest
from service.contract.settings import ExecutionSettings
from service.executions.executions import Executions
from service.executions.local_runner import LocalRunner
from service.executions.log_folder import LogFolder
from service.store import Store
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.llm_client import llm_client

OpenExecutions = Callable[..., Awaitable[Executions]]
"""`await open_executions(store, folder="logs", max_concurrency=1, …)`: started, and closed after the test."""


@pytest.fixture
async def open_executions(
    fake_endpoint: FakeEndpoint, http: httpx.AsyncClient, tmp_path: Path, open_store: object
) -> AsyncGenerator[OpenExecutions]:
    """Opens executions with any settings; several may share a store or a folder.

    `open_store` is asked for so that stores are closed after what uses them.
    """
    async with AsyncExitStack() as stack:

        async def open_one(
            store: Store,
            *,
            folder: str | Path = "logs",
            options: dict[str, Any] | None = None,
            **settings: Any,  # noqa: ANN401 - those of the section
        ) -> Executions:
            client = llm_client(http, fake_endpoint.url, model="fake-model", timeout_seconds=30.0, max_concurrency=8)
            stack.push_async_callback(client.aclose)
            more: dict[str, Any] = {"upkeep_seconds": 0.05, **(options or {})}
            executions = Executions(
                store.executions,
                LocalRunner(client, "You work.", timeout_seconds=30.0, idle_seconds=30.0),
                LogFolder(tmp_path / folder),
                ExecutionSettings(**settings),
                **more,
            )
            stack.push_async_callback(executions.aclose)
            await executions.start()
            return executions

        yield open_one


def a_task(task_id: str | None = None, **more: Any) -> ExecutionRequest:  # noqa: ANN401 - the fields of a request
    """A request to run something."""
    fields: dict[str, Any] = {"instructions": "Say hello.", "task_id": task_id, **more}
    return ExecutionRequest(**fields)


async def reached(executions: Executions, execution_id: str, *states: str) -> Execution:
    """The execution, once it is in one of these states."""
    async with asyncio.timeout(30):
        while (found := await executions.get(execution_id)).state not in states:  # noqa: ASYNC110 - as a caller polls
            await asyncio.sleep(0.005)
    return found


async def left(fake: FakeEndpoint, number: int = 1) -> None:
    """Waits until so many clients have closed their connection before they had the whole answer."""
    await asyncio.to_thread(fake.wait_for, lambda it: it.left_early >= number)
