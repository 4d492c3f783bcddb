"""Several real replicas over one real PostgreSQL: what one is told all know, and no replica's end loses anything."""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from service.base.ids import uuid7
from tests.support.http_fixtures import CATALOG, CLASSIFY
from tests.support.postgres import PostgresServer
from tests.support.service_process import ServiceProcess

LEARNED_SECONDS = 5.0
"""The promise: outcomes recorded by one are learned by all within it."""

OUTAGE_SECONDS = float(os.environ.get("POINTSMAN_OUTAGE_SECONDS", "3"))

OPUS = {"agent_type": "claude", "model": "opus"}

OpenReplicas = Callable[..., list[ServiceProcess]]
"""`open_replicas(n)`: so many, started at the same moment, over the test's database."""


class Starter:
    """Starts replicas over one database, and kills them at the end. A context manager."""

    def __init__(self, url: str, folder: Path) -> None:
        catalog = folder / "catalog.toml"
        catalog.write_text(CATALOG)
        self._folder = folder
        self._stack = ExitStack()
        self._numbers = count()
        self._environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONWARNINGS": "error",
            "POINTSMAN_STORE__URL": url,
            "POINTSMAN_CATALOG__PATH": str(catalog),
            "POINTSMAN_CLI__PRESET": "",
        }

    def __enter__(self) -> Self:
        """Starts none yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kills all."""
        self._stack.close()

    def start(self, number: int) -> list[ServiceProcess]:
        """So many more, at the same moment."""
        replicas = [
            ServiceProcess(self._environ, self._folder / f"replica-{next(self._numbers)}.log") for _ in range(number)
        ]
        for replica in replicas:
            self._stack.push(replica)
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(ServiceProcess.start, replicas))
        return replicas


@pytest.fixture
def open_replicas(tmp_path: Path, postgres_database: str) -> Generator[OpenReplicas]:
    """Replicas over a database of the test's own."""
    with Starter(postgres_database, tmp_path) as starter:
        yield starter.start


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Generator[tuple[httpx.Client, httpx.Client]]:
    """Clients of two replicas that several tests share, for starting them takes longer than the tests."""
    name = postgres_server.create_database()
    with Starter(postgres_server.url(name), tmp_path_factory.mktemp("pair")) as starter:
        first, second = starter.start(2)
        with first.client() as client, second.client() as other:
            yield client, other
    postgres_server.drop_database(name)


def wait_for(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Blocks until `condition` holds; AssertionError where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.02)


def learned(client: httpx.Client, model: str = "opus") -> int:
    """From how many outcomes of a model this replica has learned."""
    agents = client.get("/v1/catalog").json()["agents"]
    (found,) = [m["forecast"]["n"] for agent in agents for m in agent["models"] if m["model"] == model]
    return int(found)


def wait_learned(client: httpx.Client, number: int, *, model: str = "opus", seconds: float = 30.0) -> None:
    """Blocks until this replica has learned from so many."""
    wait_for(lambda: learned(client, model) == number, seconds=seconds)


def wait_metric(client: httpx.Client, series: str, value: float) -> None:
    """Blocks until a metric has that value."""
    wait_for(lambda: metric(client, series) == value)


def told(client: httpx.Client, **outcome: object) -> httpx.Response:
    """Reports an outcome."""
    return client.post("/v1/outcomes", json=outcome)


def metric(client: httpx.Client, series: str) -> float | None:
    """One metric's value; None where there is no such series."""
    for line in client.get("/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        if name == series:
            return float(value)
    return None


def outcome_ids(server: PostgresServer, url: str) -> set[str]:
    """All outcomes on record."""
    return set(server.run_sql("SELECT outcome_id FROM outcomes", database=url.rpartition("/")[2]).split())


def at_once(*calls: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Makes the calls at the same moment."""
    gate = threading.Barrier(len(calls))

    def call(one: Callable[[], httpx.Response]) -> httpx.Response:
        gate.wait()
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def rounded(answer: httpx.Response) -> dict[str, Any]:
    """Its JSON with eight decimals: where a fit begins, and so its last digits, hangs on how outcomes came in."""
    found: dict[str, Any] = json.loads(answer.text, parse_float=lambda number: round(float(number), 8))
    return found


def test_what_one_is_told_all_learn(pair: tuple[httpx.Client, httpx.Client]) -> None:
    """Outcomes recorded by one replica are learned by the other within 5 s, and a withdrawal is too, wherever it is
    asked for; both then forecast the same.
    """
    first, second = pair
    ids = [told(first, **OPUS, solved=number % 2 == 0, cost_usd=0.5).json()["outcome_id"] for number in range(20)]
    wait_learned(second, 20, seconds=LEARNED_SECONDS)
    wait_learned(first, 20)
    assert rounded(first.get("/v1/catalog")) == rounded(second.get("/v1/catalog"))
    assert second.delete(f"/v1/outcomes/{ids[0]}").status_code == 200
    wait_learned(first, 19, seconds=LEARNED_SECONDS)
    wait_learned(second, 19)
    assert first.delete(f"/v1/outcomes/{ids[0]}").status_code == 200, "again is no error"
    answers = [rounded(client.post(CLASSIFY, json={"instructions": "x"})) for client in pair]
    assert len({(answer["model"], answer["p_solve"], answer["cost_usd"]) for answer in answers}) == 1


def test_an_attempt_is_recorded_once_whichever_replica_hears_of_it(pair: tuple[httpx.Client, httpx.Client]) -> None:
    """The same outcome sent to two replicas at the same moment is recorded by one, and both name the same id; of two
    that differ one is recorded and the other is a 409.
    """
    haiku = {"agent_type": "claude", "model": "haiku"}
    kinds = [f'pointsman_outcomes_total{{solved="{solved}"}}' for solved in ("true", "false")]
    before = sum(metric(client, kind) or 0 for client in pair for kind in kinds)
    for number in range(25):
        same = {**haiku, "solved": True, "decision_id": uuid7()}
        answers = at_once(*(partial(told, client, **same) for client in pair))
        assert sorted(answer.status_code for answer in answers) == [200, 201], number
        assert len({answer.json()["outcome_id"] for answer in answers}) == 1
        rivals = [{**same, "attempt": 2, "solved": solved} for solved in (True, False)]
        answers = at_once(*(partial(told, client, **rival) for client, rival in zip(pair, rivals, strict=True)))
        assert sorted(answer.status_code for answer in answers) == [201, 409], number
    after = sum(metric(client, kind) or 0 for client in pair for kind in kinds)
    assert after - before == 50, "each is counted by one replica only"


def test_a_decision_of_one_is_known_to_the_other(pair: tuple[httpx.Client, httpx.Client]) -> None:
    """A decision is read, reported on and compared with its forecast through any replica."""
    first, second = pair
    decision = first.post(CLASSIFY, json={"instructions": "x", "agent_type": "gemini"}).json()
    path = f"/v1/decisions/{decision['decision_id']}"
    wait_for(lambda: second.get(path).status_code == 200, seconds=5)
    named = {name: decision[name] for name in ("decision_id", "agent_type", "model")}
    assert told(second, **named, solved=True).status_code == 201
    (outcome,) = first.get(path).json()["outcomes"]
    assert outcome["outcome"]["solved"] is True
    series = 'pointsman_forecast_expected_solves_total{agent_type="gemini",model="flash"}'
    wait_for(lambda: metric(second, series) is not None)
    assert metric(second, series) == pytest.approx(decision["p_solve"])
    assert metric(first, series) is None, "compared by the one that was told, so that a sum over all is right"


def test_migrations_race_safely(
    open_replicas: OpenReplicas, postgres_server: PostgresServer, postgres_database: str
) -> None:
    """Three that start on an empty database at the same moment all record, and each migration was applied once."""
    with ExitStack() as stack:
        clients = [stack.enter_context(replica.client()) for replica in open_replicas(3)]
        answers = at_once(*(partial(told, client, **OPUS, solved=True) for client in clients))
        assert [answer.status_code for answer in answers] == [201] * 3
        for client in clients:
            assert client.get("/v1/status").json()["store"]["problem"] is None
    database = postgres_database.rpartition("/")[2]
    versions = postgres_server.run_sql("SELECT version FROM schema_version ORDER BY version", database=database).split()
    assert versions == [str(version) for version in range(1, len(versions) + 1)]
    assert len(outcome_ids(postgres_server, postgres_database)) == 3


def test_a_replica_killed_in_the_middle_loses_nothing_acknowledged(
    open_replicas: OpenReplicas, postgres_server: PostgresServer, postgres_database: str
) -> None:
    """Replicas are killed -9 one after the other while outcomes are reported to them: each id that was answered is on
    record, and a new replica learns from all of it. The defect it catches: an answer before the commit.
    """
    chance = random.Random(11)
    acknowledged: list[str] = []
    for _ in range(2):
        (replica,) = open_replicas(1)
        reporters = [threading.Thread(target=report_until_cut, args=(replica, acknowledged)) for _ in range(6)]
        for reporter in reporters:
            reporter.start()
        wait_for(partial(has_grown, acknowledged, len(acknowledged) + 30))
        time.sleep(chance.uniform(0, 0.1))
        replica.process.kill()
        for reporter in reporters:
            reporter.join(30)
            assert not reporter.is_alive()
    recorded = outcome_ids(postgres_server, postgres_database)
    assert len(set(acknowledged)) == len(acknowledged) >= 60
    assert set(acknowledged) <= recorded
    (last,) = open_replicas(1)
    with last.client() as client:
        wait_learned(client, len(recorded))


def has_grown(acknowledged: list[str], to: int) -> bool:
    """Whether so many were acknowledged."""
    return len(acknowledged) >= to


def report_until_cut(replica: ServiceProcess, acknowledged: list[str]) -> None:
    """Reports one outcome after the other until the connection breaks."""
    with replica.client() as client:
        while True:
            try:
                answer = told(client, **OPUS, solved=True, decision_id=uuid7())
            except httpx.TransportError:
                return
            assert answer.status_code == 201
            acknowledged.append(answer.json()["outcome_id"])


@pytest.fixture
def stoppable_server(postgres_server: PostgresServer) -> Generator[PostgresServer]:
    """The server, which is running again after the test whatever happened."""
    yield postgres_server
    if postgres_server.stopped:
        postgres_server.start()


def test_decisions_go_on_without_the_database(
    open_replicas: OpenReplicas, stoppable_server: PostgresServer, postgres_database: str
) -> None:
    """While the database is gone every decision is made, outcomes are refused with a time to come again, and status and
    metrics tell; when it is back, all that was decided is written, and outcomes are taken and learned by all.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(replica.client()) for replica in open_replicas(2)]
        for client in clients:
            assert told(client, **OPUS, solved=True).status_code == 201
        wait_for(lambda: all(learned(client) == 2 for client in clients))
        stoppable_server.stop()
        decided = decide_for(clients, OUTAGE_SECONDS)
        assert set(statuses(decided)) == {200}
        for client in clients:
            wait_metric(client, "pointsman_store_recording", 0)
            assert client.get("/readyz").status_code == 200
            store = client.get("/v1/status").json()["store"]
            assert store["recording"] is False
            assert "nothing listens" in store["problem"]
            assert store["buffered"] == metric(client, "pointsman_store_buffered_decisions") != 0
            refused = told(client, **OPUS, solved=True)
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:pointsman:store-unavailable")
            assert int(refused.headers["retry-after"]) > 0
        assert learned(clients[0]) == 2, "what was learned is not forgotten"
        stoppable_server.start()
        for client in clients:
            wait_metric(client, "pointsman_store_recording", 1)
            wait_metric(client, "pointsman_store_buffered_decisions", 0)
            assert metric(client, "pointsman_store_dropped_decisions_total") == 0
            assert told(client, **OPUS, solved=True).status_code == 201
        for client in clients:
            wait_learned(client, 4)
        database = postgres_database.rpartition("/")[2]
        written = set(stoppable_server.run_sql("SELECT decision_id FROM decisions", database=database).split())
        assert {answer.json()["decision_id"] for answer in decided} <= written


def decide_for(clients: Sequence[httpx.Client], seconds: float) -> list[httpx.Response]:
    """Asks each in turn for decisions, some 50 a second."""
    end, answers = time.monotonic() + seconds, list[httpx.Response]()
    for number in count():
        if time.monotonic() > end:
            break
        body: dict[str, Any] = {"instructions": f"task {number}", "deadline_ms": 5000}
        answers.append(clients[number % len(clients)].post(CLASSIFY, json=body))
        time.sleep(0.02)
    return answers


def statuses(answers: Sequence[httpx.Response]) -> Counter[int]:
    """How often each status came."""
    return Counter(answer.status_code for answer in answers)
