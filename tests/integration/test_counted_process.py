"""What a decision costs, counted where a whole process runs: system calls of the service, tokens of a real model."""

import json
from pathlib import Path

import httpx
import pytest

from tests.support.http_fixtures import OpenService
from tests.support.llama_server import LlamaServer
from tests.support.service_process import ServiceProcess

REQUESTS = 400

READS_AND_WRITES = 5.0
"""For a decision: its request is read, head and body of the answer are written; the log and the database take their
lines and rows in batches. 3.3 were counted."""

PROMPT_TOKENS, EVALUATED_TOKENS = 1100, 95
"""Of a short task with the shipped catalog: all of it, and what the server had to read because its prefix cache did not
have it. 1,007 to 1,046 and 61 to 75 were counted: twelve candidates and five kinds stand in the fixed part."""

REPLY_TOKENS = {True: 62, False: 48}
"""With a reason of a few words and without one; 31 to 51 and 23 to 43 were counted, the kind of work among them."""


def _reads_and_writes(service: ServiceProcess) -> int:
    counts = dict(line.split(": ") for line in Path(f"/proc/{service.process.pid}/io").read_text().splitlines())
    return int(counts["syscr"]) + int(counts["syscw"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="system calls are counted in /proc, which Linux has")
def test_a_decision_takes_few_system_calls(open_service: OpenService) -> None:
    """Would catch a log line, a row or a file that is written or read for each decision by itself."""
    service = open_service(POINTSMAN_CLI__PRESET="")
    with service.client() as client:
        for number in range(50):
            client.post("/v1/classify", json={"instructions": f"Warm up {number}"})
        before = _reads_and_writes(service)
        for number in range(REQUESTS):
            assert client.post("/v1/classify", json={"instructions": f"Fix page {number}"}).status_code == 200
        after = _reads_and_writes(service)
    assert (after - before) / REQUESTS <= READS_AND_WRITES


@pytest.mark.timeout(400)
@pytest.mark.parametrize("reason", [True, False], ids=["with a reason", "without"])
def test_a_decision_takes_few_tokens(open_service: OpenService, llama_server: LlamaServer, reason: bool) -> None:
    """With the shape enforced, as the server's own tokenizer counts. Would catch a prompt that grows, a fixed part that
    is not fixed and so is read anew for every task, and a reply with more in it than a decision needs."""
    service = open_service(
        POINTSMAN_LOCAL_MODEL__ENDPOINT=llama_server.endpoint,
        POINTSMAN_LOCAL_MODEL__MODEL=llama_server.model,
        POINTSMAN_LOCAL_MODEL__TIMEOUT_SECONDS="150",
        POINTSMAN_LOCAL_MODEL__RESPONSE_FORMAT="json_schema",
        POINTSMAN_LOCAL_MODEL__DEFAULT_TEMPERATURE="0",
        POINTSMAN_LOCAL_MODEL__REASON=json.dumps(reason),
        POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY="1",
    )
    evaluated: list[float] = []
    with service.client(), httpx.Client(timeout=170.0, trust_env=False) as client:
        for task in ("Fix the typo in the README.", "Rename foo to bar.", "Add a test for the login.", "Sort imports."):
            before = _evaluated(llama_server, client)
            body = {"instructions": task, "deadline_ms": 160_000}
            decision = client.post(f"{service.url}/v1/classify", json=body).json()
            assert decision["source"] == "local_model", decision["failures"]
            assert decision["usage"]["tokens_in"] <= PROMPT_TOKENS
            assert decision["usage"]["tokens_out"] <= REPLY_TOKENS[reason]
            evaluated.append(_evaluated(llama_server, client) - before)
    assert min(evaluated[1:]) <= EVALUATED_TOKENS, "one of several slots may meet the prefix for the first time"


def _evaluated(llama: LlamaServer, client: httpx.Client) -> float:
    lines = client.get(f"{llama.base_url}/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("llamacpp:prompt_tokens_total ")]
    return float(line.split()[1])
