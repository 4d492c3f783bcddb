"""`/v1/executions` over HTTP: what a caller sees, with a fake endpoint behind it."""

import asyncio
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.executions.executions import Executions
from service.executions.stream_json import StreamJson
from tests.support.execution_fixtures import OpenExecutions, a_task, left, reached
from tests.support.fake_behaviours import deltas, events, over_and_over, sse, streamed, until_told
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, OpenService, RunningApp, with_model
from tests.support.service_process import ServiceProcess
from tests.support.store_fixtures import OpenStore
from tests.support.stream_reader import read_transcript

PATH = "/v1/executions"
BEGUN = events(*deltas("Hel", "lo", finish_reason=None, usage=None), done=False)
REST = events(*deltas("!"))
WORKING = sse(BEGUN, end=over_and_over(b": beat\n\n", pause=0.02))
REPORT = 'Done.\n```json\n{"summary": "s", "files": []}\n```\n'


@pytest.fixture
async def app(open_app: OpenApp, fake_endpoint: FakeEndpoint, tmp_path: Path) -> RunningApp:
    """A service with a local model; one runs and one waits."""
    return await open_app(
        local_model=with_model(fake_endpoint),
        executions={"log_dir": str(tmp_path / "logs"), "max_concurrency": 1, "max_queued": 1},
    )


def executions_of(app: RunningApp) -> Executions:
    """Those of the service."""
    assert app.core.executions is not None
    return app.core.executions


async def created(app: RunningApp, **more: Any) -> str:  # noqa: ANN401 - the fields of a request
    """The id of a new execution."""
    answer = await app.client.post(PATH, json={"instructions": "Say hello.", **more})
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"execution_id", "state"}
    assert answer.headers["location"] == f"{PATH}/{answer.json()['execution_id']}"
    execution_id: str = answer.json()["execution_id"]
    return execution_id


async def test_a_task_is_run(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """202 at once; then its state, figures, text and change report; and its log, whole or followed."""
    fake_endpoint.then(streamed("Done", REPORT.removeprefix("Done"), usage=(12, 3)))
    one = await created(app, name="Greet", task_id="t", labels={"repo": "x"}, max_tokens=50, temperature=0, model="m2")
    followed = await app.client.get(f"{PATH}/{one}/stdout.log", params={"follow": "true"})
    assert followed.headers["content-type"].startswith("application/x-ndjson")
    seen = read_transcript(followed.content.splitlines())
    assert seen.messages == [REPORT]
    document = (await app.client.get(f"{PATH}/{one}")).json()
    times = [document.pop(name) for name in ("created_at", "started_at", "ended_at")]
    assert times == sorted(times)
    assert document == {
        "execution_id": one,
        "task_id": "t",
        "name": "Greet",
        "model": "fake-model",
        "state": "succeeded",
        "tokens_in": 12,
        "tokens_out": 3,
        "cost_usd": 0.0,
        "exit_reason": "completed",
        "text": REPORT,
        "report": {"summary": "s", "files": []},
    }
    assert (await app.client.get(f"{PATH}/{one}/stdout.log")).content == followed.content
    assert (await app.client.head(f"{PATH}/{one}/stdout.log?follow=true")).status_code == 200
    assert fake_endpoint.chats[0].json["model"] == "m2"


async def test_an_end_is_no_outcome(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """Nothing is learned from an execution that succeeded, failed or was cancelled."""

    async def numbers() -> list[tuple[str, int]]:
        catalog = (await app.client.get("/v1/catalog")).json()
        return [
            (f"{agent['agent_type']}/{model['model']}", model["forecast"]["n"])
            for agent in catalog["agents"]
            for model in agent["models"]
        ]

    before = await numbers()
    fake_endpoint.then(streamed("Hello"), streamed(), WORKING)
    for _ in range(2):
        await reached(executions_of(app), await created(app), "succeeded", "failed")
    await app.client.delete(f"{PATH}/{await created(app)}")
    assert any(name.startswith("local/") for name, _ in before)
    assert await numbers() == before
    assert [one async for one in app.core.store.outcomes.export()] == []


async def test_delete_cancels_on_the_server_too(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """The endpoint sees its connection closed; a second DELETE answers the same."""
    fake_endpoint.then(WORKING)
    one = await created(app)
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.chats) == 1)
    for _ in range(2):
        answer = await app.client.delete(f"{PATH}/{one}")
        assert (answer.status_code, answer.json()) == (200, {"execution_id": one, "state": "cancelled"})
    await left(fake_endpoint)


async def test_beyond_the_queue_it_is_overloaded(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """503 with Retry-After; the same task again is still found."""
    fake_endpoint.always(WORKING)
    first, second = await created(app, task_id="a"), await created(app, task_id="b")
    answer = await app.client.post(PATH, json={"instructions": "x", "task_id": "c"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:pointsman:overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    assert await created(app, task_id="b") == second
    assert await created(app, task_id="a") == first
    assert (await app.client.get("/v1/status")).json()["executions"] == {"running": 1, "queued": 1}


async def test_without_an_endpoint_there_is_no_local_agent(plain_app: RunningApp) -> None:
    """404 `local-agent-off`, whatever is asked of executions."""
    one = "01900000-0000-7000-8000-000000000000"
    for method, path in [("POST", PATH), ("GET", f"{PATH}/{one}"), ("DELETE", f"{PATH}/{one}")]:
        answer = await plain_app.client.request(method, path, json={"instructions": "x"} if method == "POST" else None)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:pointsman:local-agent-off")
    assert (await plain_app.client.get(f"{PATH}/{one}/stdout.log")).json()["type"] == "urn:pointsman:local-agent-off"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$.instructions"),
        ({"instructions": ""}, "$.instructions"),
        ({"instructions": "x", "max_tokens": 0}, "$.max_tokens"),
        ({"instructions": "x", "temperature": 3}, "$.temperature"),
        ({"instructions": "x", "labels": {"a": 1}}, "$.labels.a"),
        ({"instructions": "x", "agent_type": "claude"}, "$.agent_type"),
    ],
    ids=["missing", "empty", "tokens", "temperature", "label", "unknown"],
)
async def test_a_wrong_request_names_its_place(app: RunningApp, body: dict[str, Any], path: str) -> None:
    """400 with the path, and nothing is run."""
    answer = await app.client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:pointsman:invalid-request")
    assert path in answer.json()["detail"]


@pytest.mark.parametrize("one", ["nonsense", "..%2f..%2fetc", "01900000-0000-7000-8000-000000000000"])
async def test_an_unknown_one_is_not_found(app: RunningApp, one: str) -> None:
    """404, for what is no id as well."""
    for path in (f"{PATH}/{one}", f"{PATH}/{one}/stdout.log", f"{PATH}/{one}/stdout.log?follow=true"):
        answer = await app.client.get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:pointsman:not-found")


async def test_a_log_that_is_not_there_says_why(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """Not begun, or rotated out: 404, for followers too; what is kept of the execution stays."""
    fake_endpoint.then(WORKING, streamed("Hello"))
    first, second = await created(app), await created(app)
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.chats) == 1)
    answer = await app.client.get(f"{PATH}/{second}/stdout.log")
    assert (answer.status_code, "has not begun" in answer.json()["detail"]) == (404, True)
    await app.client.delete(f"{PATH}/{first}")
    await reached(executions_of(app), second, "succeeded")
    executions_of(app).logs.path(second).unlink()
    for follow in ("true", "false"):
        answer = await app.client.get(f"{PATH}/{second}/stdout.log", params={"follow": follow})
        assert (answer.status_code, "rotated out" in answer.json()["detail"]) == (404, True)
    assert "text" not in (await app.client.get(f"{PATH}/{second}")).json()
    assert (await app.client.get(f"{PATH}/{second}/stdout.log?follow=maybe")).status_code == 400


async def test_the_summary_of_a_crash_is_what_was_written(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """Without a consolidated message the text is put together from the pieces."""
    fake_endpoint.then(streamed("x"))
    one = await created(app)
    await reached(executions_of(app), one, "succeeded")
    lines = StreamJson(one, "m")
    executions_of(app).logs.path(one).write_bytes(lines.init("/") + lines.delta("half ") + lines.delta("done"))
    assert (await app.client.get(f"{PATH}/{one}")).json()["text"] == "half done"


def service_with(fake: FakeEndpoint, open_service: OpenService, **more: str) -> ServiceProcess:
    """A real service with the fake endpoint as its model."""
    return open_service(POINTSMAN_LOCAL_MODEL__ENDPOINT=fake.url, POINTSMAN_LOCAL_MODEL__MODEL="fake-model", **more)


def test_a_follower_gets_each_line_at_once(fake_endpoint: FakeEndpoint, open_service: OpenService) -> None:
    """Over a real socket every delta arrives before the next one is sent: nothing on the way holds it back."""
    fake_endpoint.then(streamed(*"abcdef", pause=0.3))
    service = service_with(fake_endpoint, open_service)
    with service.client() as client:
        one = client.post(PATH, json={"instructions": "x"}).json()["execution_id"]
        pieces: list[bytes] = []
        with client.stream("GET", f"{PATH}/{one}/stdout.log?follow=true") as answer:
            pieces.extend(piece for piece in answer.iter_raw() if b"text_delta" in piece)
    assert [piece.count(b"text_delta") for piece in pieces] == [1] * 6


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM)], ids=["Ctrl-C", "twice"])
def test_stopping_in_a_hurry(
    fake_endpoint: FakeEndpoint, open_service: OpenService, signals: tuple[signal.Signals, ...]
) -> None:
    """Ctrl-C, and a second SIGTERM, end a run at once as interrupted, its follower gets the result line, and the
    process ends: fails if the follower holds the shutdown for its whole grace period."""
    fake_endpoint.then(WORKING)
    service = service_with(fake_endpoint, open_service, POINTSMAN_SERVER__SHUTDOWN_SECONDS="50")
    with service.client() as client:
        one = client.post(PATH, json={"instructions": "x"}).json()["execution_id"]
        fake_endpoint.wait_for(lambda fake: len(fake.chats) == 1)
        with client.stream("GET", f"{PATH}/{one}/stdout.log?follow=true") as answer:
            lines = answer.iter_lines()
            head = [next(lines) for _ in range(3)]
            for number in signals:
                service.signal(number)
                time.sleep(0.3)
            seen = read_transcript(line.encode() for line in [*head, *lines])
        assert service.wait(20) == (130 if signal.SIGINT in signals else 0)
    assert seen.result["exit_reason"] == "shutdown"
    fake_endpoint.wait_for(lambda fake: fake.left_early == 1)


def test_what_runs_at_sigterm_comes_to_its_end(
    fake_endpoint: FakeEndpoint, open_service: OpenService, tmp_path: Path
) -> None:
    """It has `server.shutdown_seconds`, whether anybody follows it or not; what needs longer is interrupted then."""
    told = threading.Event()
    fake_endpoint.then(sse(BEGUN, end=until_told(told, REST)), WORKING)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    service = service_with(
        fake_endpoint, open_service, POINTSMAN_SERVER__SHUTDOWN_SECONDS="4", POINTSMAN_STORE__URL=url
    )
    with service.client() as client:
        ids: list[str] = []
        for _ in range(2):
            ids.append(client.post(PATH, json={"instructions": "x"}).json()["execution_id"])
            fake_endpoint.wait_for(lambda fake: len(fake.chats) == len(ids))
        began = time.monotonic()
        service.signal()
        time.sleep(1)
        assert service.process.poll() is None
        told.set()
        assert service.wait(20) == 0
        assert 2.5 < time.monotonic() - began < 10
    with closing(sqlite3.connect(tmp_path / "store.db")) as database:
        kept = dict(database.execute("SELECT execution_id, state FROM executions"))
    assert kept == {ids[0]: "succeeded", ids[1]: "interrupted"}


async def test_they_are_listed(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """Newest first, with their state now, by page and by task; nothing of the service's own affairs is in it."""
    fake_endpoint.always(streamed("Hello"))
    ids: list[str] = []
    for number in range(3):
        ids.append(await created(app, task_id=f"t{number % 2}", name=str(number)))
        await reached(executions_of(app), ids[-1], "succeeded")
        await asyncio.sleep(0.05)  # its name may be in the list before its place in the queue is free
    listed = (await app.client.get(PATH)).json()["executions"]
    assert [one["execution_id"] for one in listed] == ids[::-1]
    assert {one["state"] for one in listed} == {"succeeded"}
    assert not {"owner", "seen_at", "request_digest"} & set(listed[0])
    for query, expected in (
        (f"?limit=1&before={ids[2]}", [ids[1]]),
        ("?task_id=t0", [ids[2], ids[0]]),
        ("?task_id=none", []),
    ):
        page = (await app.client.get(PATH + query)).json()["executions"]
        assert [one["execution_id"] for one in page] == expected
    assert (await app.client.head(PATH)).status_code == 200
    allowed = await app.client.options(PATH)
    assert allowed.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert (await app.client.put(PATH)).headers["allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("?limit=0", "query limit"),
        ("?limit=501", "query limit"),
        ("?limit=x", "query limit"),
        ("?before=x", "query before: expected an execution_id"),
        ("?agent_type=local", "query agent_type"),
        ("?task_id=a&task_id=b", "query task_id"),
    ],
)
async def test_a_wrong_listing_names_its_place(app: RunningApp, query: str, place: str) -> None:
    """A parameter that is not known or has a wrong value is named."""
    refused = await app.client.get(PATH + query)
    assert refused.status_code == 400
    assert place in refused.json()["detail"]


async def test_one_task_on_two_replicas(
    open_executions: OpenExecutions, open_store: OpenStore, fake_endpoint: FakeEndpoint, postgres_database: str
) -> None:
    """Asked at the same moment, two replicas over one database give the same execution, and it runs once."""
    fake_endpoint.always(streamed("Hello"))
    replicas = [
        await open_executions(await open_store(postgres_database), folder=name, max_concurrency=4) for name in "ab"
    ]
    for number in range(5):
        got = await asyncio.gather(*(replica.create(a_task(f"t{number}")) for replica in replicas * 3))
        assert len({one.execution_id for one in got}) == 1
        await reached(replicas[0], got[0].execution_id, "succeeded")
    assert len(fake_endpoint.chats) == 5


async def test_a_replica_cancels_over_the_database(
    open_executions: OpenExecutions, open_store: OpenStore, fake_endpoint: FakeEndpoint, postgres_database: str
) -> None:
    """A DELETE at the other replica reaches the server that works."""
    fake_endpoint.then(WORKING)
    one, two = [await open_executions(await open_store(postgres_database), folder=name) for name in "ab"]
    made = await one.create(a_task())
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.chats) == 1)
    assert (await two.cancel(made.execution_id)).state == "cancelled"
    await left(fake_endpoint)
    assert (await reached(one, made.execution_id, "cancelled")).exit_reason == "cancelled"


async def test_the_schema_knows_executions(plain_app: RunningApp) -> None:
    """The OpenAPI document has the five routes."""
    answer: httpx.Response = await plain_app.client.get("/schema/openapi.json")
    paths = answer.json()["paths"]
    assert set(paths[PATH]) == {"get", "post"}
    assert set(paths[f"{PATH}/{{execution_id}}"]) == {"get", "delete"}
    assert set(paths[f"{PATH}/{{execution_id}}/stdout.log"]) == {"get"}
