"""A real process whose ConfigMap is swapped and that is sent SIGHUP, also under load."""

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.config_map import Mounted
from tests.support.fake_behaviours import slow, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour, RecordedRequest
from tests.support.http_fixtures import CLASSIFY
from tests.support.service_process import POINTSMAN, ServiceProcess, process_environ

SWAPS = 24
CALLERS = 4
CATALOG = """
[[agent]]
type = "agent-{0}"
[[agent.model]]
id = "first-{0}"
solve_rate = 0.6
cost_usd = 0.2
[[agent.model]]
id = "second-{0}"
solve_rate = 0.4
cost_usd = 0.1
"""
"""Of side `a` or `b`: nothing in it occurs in the other one."""


@dataclass
class Seen:
    """What callers saw, from several threads."""

    answers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    others: list[str] = field(default_factory=list[str])
    stop: bool = False


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """The mounted files."""
    folder = tmp_path / "etc"
    folder.mkdir()
    return Mounted(folder)


@pytest.fixture
def serve(
    tmp_path: Path, bare_environ: Mapping[str, str], mounted: Mounted
) -> Generator[Callable[..., ServiceProcess]]:
    """Starts the service with the mounted configuration, and kills it after the test."""
    started: list[ServiceProcess] = []

    def start(**environ: str) -> ServiceProcess:
        service = ServiceProcess(
            {**bare_environ, **environ},
            tmp_path / "serve.log",
            ("--port", "0", "--config", str(mounted.folder / "pointsman.toml")),
        )
        started.append(service)
        return service.__enter__()

    yield start
    for service in started:
        service.__exit__(None, None, None)


def side_of(mounted: Mounted, side: str) -> dict[str, str]:
    """The files of one side; catalog and prompt change together."""
    user = (mounted.folder / "prompts" / "classify.user.txt").read_text().partition("\nSide: ")[0]
    return {"catalog_toml": CATALOG.format(side), "prompts__classify_user_txt": f"{user}\nSide: {side}\n"}


def reload_of(client: httpx.Client) -> dict[str, Any]:
    """What the status says of the last change."""
    found: dict[str, Any] = client.get("/v1/status").json()["reload"]
    return found


def wait_for(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Blocks until `condition` holds; AssertionError where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.01)


def decide(client: httpx.Client) -> dict[str, Any]:
    """One decision."""
    answer = client.post(CLASSIFY, json={"instructions": "fix it"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_swap_takes_effect_by_itself(serve: Callable[..., ServiceProcess], mounted: Mounted) -> None:
    """A ConfigMap that is swapped is read anew within seconds, without a signal; `versions` and the log say so."""
    service = serve()
    with service.client() as client:
        before = decide(client)
        mounted.change(**side_of(mounted, "a"))
        wait_for(lambda: decide(client)["agent_type"] == "agent-a")
        after = decide(client)
    assert after["versions"]["catalog"] != before["versions"]["catalog"]
    assert after["versions"]["prompt"] != before["versions"]["prompt"]
    (line,) = [line for line in service.log_lines if line.get("event") == "reloaded"]
    assert (line["catalog"], line["prompt"]) == (after["versions"]["catalog"], after["versions"]["prompt"])


def test_sighup_reads_at_once(serve: Callable[..., ServiceProcess], mounted: Mounted) -> None:
    """SIGHUP reads everything anew, changed or not, and never ends the process."""
    service = serve()
    with service.client() as client:
        for number in range(1, 4):
            service.signal(signal.SIGHUP)
            wait_for(lambda expected=number: reload_of(client)["reloads"] == expected, seconds=10)  # type: ignore[misc]  # a default binds the loop's value
        assert service.process.poll() is None
        assert 'pointsman_reloads_total{result="adopted"} 3.0' in client.get("/metrics").text


def test_a_bad_file_is_refused_in_a_running_service(serve: Callable[..., ServiceProcess], mounted: Mounted) -> None:
    """What is wrong is said in the status, in a metric and in a log line; decisions go on with the last good files,
    also after another SIGHUP, until it is mended.
    """
    service = serve()
    mended = side_of(mounted, "a")
    with service.client() as client:
        before = decide(client)
        mounted.change(catalog_toml=mended["catalog_toml"].replace("solve_rate", "solve_rte"))
        service.signal(signal.SIGHUP)
        wait_for(lambda: reload_of(client)["problem"] is not None)
        problem = reload_of(client)["problem"]
        assert "catalog.toml" in problem
        assert "solve_rte" in problem
        assert "pointsman_reload_refused 1.0" in client.get("/metrics").text
        assert decide(client)["versions"] == before["versions"]
        refused = [line for line in service.log_lines if "refused" in str(line.get("event"))]
        assert refused[0]["level"] == "error"
        assert refused[0]["problem"] == problem
        mounted.change(pointsman_toml="not = [toml", **mended)
        service.signal(signal.SIGHUP)
        wait_for(lambda: "pointsman.toml" in reload_of(client)["problem"])
        assert decide(client)["versions"] == before["versions"]
        mounted.change(pointsman_toml=mounted.first_config)
        service.signal(signal.SIGHUP)
        wait_for(lambda: reload_of(client)["problem"] is None)
        assert decide(client)["agent_type"] == "agent-a"
        assert "pointsman_reload_refused 0.0" in client.get("/metrics").text


def test_no_request_fails_or_sees_half_of_each(
    serve: Callable[..., ServiceProcess], mounted: Mounted, fake_endpoint: FakeEndpoint
) -> None:
    """While catalog and prompts are swapped together again and again, under load, every request is answered, each
    decision's versions, candidates and plan belong together, and the model server never gets the catalog of one side
    with the prompt of the other. The defect it catches: parts that are replaced one by one.
    """
    fake_endpoint.choose(lambda request: slow(answer_of(request), 0.01))
    mounted.change(**side_of(mounted, "a"))
    service = serve(
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
        POINTSMAN_LOCAL_MODEL__MODEL="fake-model",
        POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY="16",
        POINTSMAN_SERVER__LOG_LEVEL="warning",
    )
    seen, numbers = Seen(), count()
    callers = [threading.Thread(target=call, args=(service, seen, numbers)) for _ in range(CALLERS)]
    versions: dict[str, Any] = {}
    with service.client() as client:
        for caller in callers:
            caller.start()
        try:
            versions["a"] = decide(client)["versions"]
            for swap in range(SWAPS):
                side = "ba"[swap % 2]
                mounted.change(**side_of(mounted, side))
                service.signal(signal.SIGHUP)
                wait_for(lambda side=side: decide(client)["agent_type"] == f"agent-{side}")  # type: ignore[misc]  # a default binds the loop's value
                versions.setdefault(side, decide(client)["versions"])
        finally:
            seen.stop = True
            for caller in callers:
                caller.join(30)
    assert seen.others == []
    sides: Counter[str] = Counter()
    for decision in seen.answers:
        side = decision["agent_type"].removeprefix("agent-")
        assert decision["versions"] == versions[side]
        assert {step["agent_type"] for step in decision["plan"]} == {f"agent-{side}"}
        assert decision["source"] == "local_model"
        sides[side] += 1
    assert min(sides["a"], sides["b"]) > SWAPS
    asked = [sides_in(request) for request in fake_endpoint.chats]
    assert set(asked) == {("a", "a"), ("b", "b")}


def call(service: ServiceProcess, seen: Seen, numbers: "count[int]") -> None:
    """Asks for one decision after the other, each about another task; `local_only` agents are left out."""
    with service.client() as client:
        while not seen.stop:
            body = {"instructions": f"task {next(numbers)}", "require": {"exclude": [{"agent_type": "local"}]}}
            try:
                answer = client.post(CLASSIFY, json=body)
            except httpx.TransportError as error:
                seen.others.append(repr(error))
                continue
            if answer.status_code == 200:
                seen.answers.append(answer.json())
            else:
                seen.others.append(answer.text)


def sides_in(request: RecordedRequest) -> tuple[str, str]:
    """Whose catalog and whose prompt a question has: one letter each, two where they are mixed."""
    text = request.body.decode()
    catalog = "".join(side for side in "ab" if f"agent-{side}" in text)
    return catalog, "".join(side for side in "ab" if f"Side: {side}" in text)


def answer_of(request: RecordedRequest) -> Behaviour:
    """Names the first candidate of the catalog that the question has."""
    side = sides_in(request)[0][-1:]
    return verdict(f"agent-{side}", f"first-{side}")


def holds_back_sighup(process: int) -> bool:
    """Whether it blocks the signal now."""
    told = Path(f"/proc/{process}/status").read_text()
    return bool(int(told.partition("SigBlk:")[2].split()[0], 16) & 1 << (signal.SIGHUP - 1))


def test_sighup_while_it_starts_does_not_end_it(
    tmp_path: Path, bare_environ: Mapping[str, str], mounted: Mounted
) -> None:
    """From its first own statement on, long before it listens, SIGHUP waits until it can be heeded, and then is."""
    environ = process_environ({**bare_environ, "POINTSMAN_CLI__PRESET": ""})
    command = [*POINTSMAN, "serve", "--port", "0", "--config", str(mounted.folder / "pointsman.toml")]
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as it:
        try:
            wait_for(lambda: holds_back_sighup(it.pid))
            assert it.stdout is not None
            it.send_signal(signal.SIGHUP)
            address = it.stdout.readline().decode().split()[-1]  # nothing stands here where it has ended
            with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
                wait_for(lambda: reload_of(client)["reloads"] == 1)
            assert not holds_back_sighup(it.pid)
        finally:
            it.kill()
