"""A real process seen from outside: its traces at a collector, and its log lines."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.fake_behaviours import status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import CLASSIFY, OpenService
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.service_process import ServiceProcess, pointsman, process_environ

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
EXPORTER = "google/_upb"
"""A library that the exporter loads, and nothing else."""
SECRET = "nobody's business at all"


def test_spans_reach_a_collector(open_service: OpenService, fake_endpoint: FakeEndpoint) -> None:
    """Over OTLP/HTTP a collector gets the caller's trace, whole, with the headers that the standard variable names;
    what was not sent yet is sent at shutdown; no body holds a task's text.
    """
    fake_endpoint.always(verdict("claude", "claude-opus-4-8"))
    with OtlpReceiver() as collector:
        service = open_service(
            POINTSMAN_TRACING__ENDPOINT=collector.url,
            POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
            POINTSMAN_LOCAL_MODEL__MODEL="fake-model",
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=pointsmen",
            OTEL_BSP_SCHEDULE_DELAY="60000",
        )
        with service.client() as client:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            answer = client.post(CLASSIFY, json={"instructions": SECRET, "name": SECRET}, headers=headers)
            assert answer.status_code == 200
        assert EXPORTER in loaded(service)
        assert service.stop() == 0
        spans = {span.name: span for span in collector.spans}
        assert set(spans) == {"POST /v1/classify", "decide", "eligibility", "chat fake-model", "forecast"}
        assert {span.trace_id for span in spans.values()} == {TRACE}
        request, decide = spans["POST /v1/classify"], spans["decide"]
        assert (request.parent_id, decide.parent_id) == (PARENT, request.span_id)
        assert {spans[name].parent_id for name in ("eligibility", "chat fake-model", "forecast")} == {decide.span_id}
        assert decide.attributes["pointsman.decision_id"] == answer.json()["decision_id"]
        assert spans["chat fake-model"].attributes["gen_ai.usage.output_tokens"] == 5
        assert request.resource["service.name"] == "pointsman"
        assert collector.paths == {"/v1/traces"}
        assert collector.headers[0]["x-tenant"] == "pointsmen"
        assert not any(SECRET.encode() in body for body in collector.bodies)
    lines = [line for line in service.log_lines if line.get("event") == "decided"]
    assert [line["trace_id"] for line in lines] == [TRACE]


def test_a_collector_that_is_away_costs_nobody_anything(open_service: OpenService) -> None:
    """With nothing at the collector's address, or with one that never answers, decisions are made as fast as ever, and
    the end of the process waits a few seconds at the most.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        services = [
            open_service(POINTSMAN_TRACING__ENDPOINT=f"http://{address}", OTEL_BSP_SCHEDULE_DELAY="50")
            for address in ("127.0.0.1:1", f"127.0.0.1:{silent.getsockname()[1]}")
        ]
        for service in services:
            with service.client() as client:
                for number in range(50):
                    answer = client.post(CLASSIFY, json={"instructions": f"task {number}", "deadline_ms": 2000})
                    assert answer.json()["timings_ms"]["total"] < 2000
        started = time.monotonic()
        for service in services:
            service.signal()
        assert [service.wait() for service in services] == [0, 0]
        assert time.monotonic() - started < 10


def test_without_an_endpoint_nothing_of_it_is_loaded(open_service: OpenService) -> None:
    """A service without `[tracing]` has not even imported OpenTelemetry; traceparent is ignored."""
    service = open_service()
    with service.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert client.post(CLASSIFY, json={"instructions": "x"}, headers=headers).status_code == 200
    assert "numpy" in loaded(service)
    assert EXPORTER not in loaded(service)
    assert not any("trace_id" in line for line in service.log_lines)


def test_a_wrong_endpoint_ends_the_start(bare_environ: Mapping[str, str]) -> None:
    """What is no URL is refused at the start with exit code 2, in one line that names the setting."""
    ended = pointsman("serve", "--port", "0", environ={**bare_environ, "POINTSMAN_TRACING__ENDPOINT": "collector:4318"})
    assert ended.code == 2
    assert "tracing.endpoint" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_log_lines_name_request_decision_and_task(open_service: OpenService, fake_endpoint: FakeEndpoint) -> None:
    """Each line is a JSON object; those of one request share its id, and the decision's has the ids of decision and
    task; an execution's has its own and the task's. None holds a task's text.
    """
    fake_endpoint.then(verdict("claude", "claude-opus-4-8", reason=SECRET), status(500, SECRET))
    service = open_service(POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url, POINTSMAN_LOCAL_MODEL__MODEL="fake-model")
    with service.client() as client:
        decisions = [
            client.post(
                CLASSIFY,
                json={"instructions": f"{SECRET} {number}", "name": SECRET, "task_id": f"task-{number}"},
                headers={"x-request-id": f"request-{number}"},
            ).json()
            for number in range(2)
        ]
        batch = {"tasks": [{"instructions": SECRET, "task_id": "in-a-batch"}]}
        client.post(f"{CLASSIFY}/batch", json=batch, headers={"x-request-id": "request-batch"})
        created = client.post("/v1/executions", json={"instructions": SECRET, "task_id": "task-run"}).json()
        wait_for(lambda: any(line.get("event") == "execution ended" for line in service.log_lines))
    lines = service.log_lines
    decided = {line["task_id"]: line for line in lines if line.get("event") == "decided"}
    for number, decision in enumerate(decisions):
        line = decided[f"task-{number}"]
        assert line["request_id"] == f"request-{number}"
        assert line["decision_id"] == decision["decision_id"]
        (answered,) = [
            one for one in lines if one.get("event") == "answered" and one["request_id"] == f"request-{number}"
        ]
        assert (answered["route"], answered["status"]) == ("/v1/classify", 200)
    assert decided["in-a-batch"]["request_id"] == "request-batch"
    (ended,) = [line for line in lines if line.get("event") == "execution ended"]
    assert (ended["execution_id"], ended["task_id"]) == (created["execution_id"], "task-run")
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
    assert SECRET not in service.log_text


def loaded(service: ServiceProcess) -> str:
    """The files that the process has in memory, compiled modules among them."""
    return Path(f"/proc/{service.process.pid}/maps").read_text()


def wait_for(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Blocks until `condition` holds; AssertionError where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_traces_without_their_extra_are_refused_in_words(bare_environ: Mapping[str, str]) -> None:
    """Where OpenTelemetry is not installed and an endpoint is set, the start ends and says what to install."""
    program = (
        "import sys; sys.modules['opentelemetry'] = None; sys.argv = ['pointsman', 'serve', '--port', '0']; "
        "from service.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=process_environ({**bare_environ, "POINTSMAN_TRACING__ENDPOINT": "http://127.0.0.1:4318"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "pip install pointsman[tracing]" in ended.stderr
    assert ended.stderr.count("\n") == 1
