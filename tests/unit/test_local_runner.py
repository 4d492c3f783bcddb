"""LocalRunner against a fake endpoint on a real socket: what it asks, what it writes, how it ends."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.contract.execution import ExecutionRequest
from service.executions.local_runner import LocalRunner, RunResult
from service.executions.log_file import LogFile
from service.executions.stream_json import read_lines
from service.executions.summary import read_summary
from service.llm.client import LLMClient
from tests.support.fake_behaviours import (
    answer,
    deltas,
    events,
    hang,
    over_and_over,
    reset,
    sse,
    status,
    streamed,
)
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour
from tests.support.llm_client import llm_client
from tests.support.service_process import ROOT
from tests.support.stream_reader import Transcript, read_transcript

GREET = ExecutionRequest(name="Greet", instructions="Say hello.", labels={"repo": "x"})


class Bench:
    """A runner and one log."""

    def __init__(self, client: LLMClient, path: Path) -> None:
        self.runner = LocalRunner(client, "You work.", timeout_seconds=20.0, idle_seconds=0.3)
        self.path = path
        self.log = LogFile(path)

    async def run(self, request: ExecutionRequest = GREET, **more: Any) -> RunResult:  # noqa: ANN401 - those of LocalRunner.run
        """One run into the log."""
        return await self.runner.run("0190", request, self.log, **more)

    @property
    def transcript(self) -> Transcript:
        """The log as a reader of the format sees it."""
        return read_transcript(self.path.read_bytes().splitlines())


@pytest.fixture
async def bench(fake_endpoint: FakeEndpoint, http: httpx.AsyncClient, tmp_path: Path) -> AsyncIterator[Bench]:
    """A runner over the fake endpoint."""
    client = llm_client(http, fake_endpoint.url, model="fake-model", timeout_seconds=20.0, first_wait_seconds=0.01)
    bench = Bench(client, tmp_path / "stdout.log")
    yield bench
    bench.log.close()
    await client.aclose()


async def test_a_run_is_written_down(bench: Bench, fake_endpoint: FakeEndpoint) -> None:
    """Deltas, one message, the result with its figures; the callbacks see the same; the request is what was asked."""
    fake_endpoint.then(streamed("Hel", "lo", reasoning=["Hm."], usage=(12, 3)))
    texts: list[str] = []
    lines: list[bytes] = []
    result = await bench.run(on_text=texts.append, on_line=lines.append)
    assert result.succeeded
    assert (result.exit_reason, result.text, result.model) == ("completed", "Hello", "fake-model")
    assert (result.tokens_in, result.tokens_out) == (12, 3)
    assert texts == ["Hel", "lo"]
    assert b"".join(lines) == bench.path.read_bytes()
    seen = bench.transcript
    assert (seen.streamed, seen.messages, seen.thinking) == (["Hel", "lo"], ["Hello"], "Hm.")
    assert seen.result["usage"] == {"input_tokens": 12, "output_tokens": 3}
    [asked] = fake_endpoint.chats
    assert asked.json["messages"] == [
        {"role": "system", "content": "You work."},
        {"role": "user", "content": "Greet\n\nrepo: x\n\nSay hello."},
    ]
    assert "temperature" not in asked.json
    assert "max_tokens" not in asked.json
    assert "response_format" not in asked.json


async def test_limits_are_sent_when_they_are_given(bench: Bench, fake_endpoint: FakeEndpoint) -> None:
    """max_tokens and temperature go to the server; an answer that was cut off is a success that says so."""
    fake_endpoint.then(streamed("Hel", finish_reason="length"))
    result = await bench.run(ExecutionRequest(instructions="x", model="other", max_tokens=3, temperature=0.5))
    assert (result.succeeded, result.exit_reason) == (True, "length")
    assert fake_endpoint.chats[0].json["max_tokens"] == 3
    assert fake_endpoint.chats[0].json["temperature"] == 0.5
    assert fake_endpoint.chats[0].json["model"] == "other"


async def test_thinking_in_the_text_is_kept_apart(bench: Bench, fake_endpoint: FakeEndpoint) -> None:
    """`<think>` is no part of the answer, the message or the summary."""
    fake_endpoint.then(streamed("<th", "ink>a", "b</think>", "\n\nYes", "."))
    result = await bench.run()
    assert result.text == "Yes."
    assert (bench.transcript.thinking, bench.transcript.messages) == ("ab", ["Yes."])
    assert read_summary(bench.path).text == "Yes."


async def test_an_answer_of_one_document_is_taken(bench: Bench, fake_endpoint: FakeEndpoint) -> None:
    """A server that does not stream still gives an answer; without usage no tokens are made up."""
    fake_endpoint.then(answer("Hello", usage=None))
    result = await bench.run()
    assert (result.text, result.tokens_in, result.tokens_out) == ("Hello", None, None)
    assert bench.transcript.result["usage"] == {"input_tokens": 0, "output_tokens": 0}


BEGUN = events(*deltas("Hel", "lo", finish_reason=None, usage=None), done=False)


@pytest.mark.parametrize(
    ("behaviour", "reason", "text"),
    [
        (status(400, '{"error": {"message": "too long"}}'), "http-400", ""),
        (sse(BEGUN, end=reset()), "connection-broken", "Hello"),
        (sse(BEGUN), "stream-cut", "Hello"),
        (sse(BEGUN, end=hang()), "idle-timeout", "Hello"),
        (streamed(), "empty-answer", ""),
        (streamed("<think>", "and no more"), "empty-answer", ""),
        (sse(BEGUN + b'data: {"error": {"message": "out of memory"}}\n\n'), "server-error", "Hello"),
    ],
    ids=["400", "reset", "cut", "idle", "empty", "only-thinking", "error-event"],
)
async def test_a_failure_ends_in_a_result_line(
    bench: Bench, fake_endpoint: FakeEndpoint, behaviour: Behaviour, reason: str, text: str
) -> None:
    """What goes wrong is in the result and in the log's last line, with what came before it; nothing is raised."""
    fake_endpoint.always(behaviour)
    result = await bench.run()
    assert (result.succeeded, result.exit_reason, result.text) == (False, reason, text)
    seen = bench.transcript
    assert (seen.result["is_error"], seen.result["exit_reason"]) == (True, reason)
    assert seen.result["result"] == result.detail
    assert read_summary(bench.path).text == text


async def test_cancelled_it_ends_on_the_server_too(bench: Bench, fake_endpoint: FakeEndpoint) -> None:
    """The server sees its connection closed, the log says why, and CancelledError goes on."""
    fake_endpoint.then(sse(BEGUN, end=over_and_over(b": beat\n\n", pause=0.01)))
    begun = asyncio.Event()

    def on_text(text: str) -> None:
        assert text
        begun.set()

    run = asyncio.create_task(bench.run(on_text=on_text))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: fake.left_early == 1)
    assert bench.transcript.result["exit_reason"] == "cancelled"
    assert bench.transcript.messages[0].startswith("Hel")


async def test_a_listener_that_breaks_is_no_broken_log(bench: Bench, fake_endpoint: FakeEndpoint) -> None:
    """What a callback raises goes to the caller, and the server is told; fails if every OSError is taken for the
    log's."""
    fake_endpoint.then(sse(BEGUN, end=hang()))

    def broken(text: str) -> None:
        raise BrokenPipeError(text)

    with pytest.raises(BrokenPipeError):
        await bench.run(on_text=broken)
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: fake.left_early == 1)
    assert bench.transcript.result["exit_reason"] == "internal"


async def test_a_delta_of_a_mebibyte(bench: Bench, fake_endpoint: FakeEndpoint) -> None:
    """One huge piece is written and read back like any other."""
    text = "x" * (1 << 20)
    fake_endpoint.then(streamed(text))
    assert (await bench.run()).succeeded
    assert bench.transcript.streamed == [text]
    assert read_summary(bench.path).text == text


async def test_no_log_is_needed(bench: Bench, fake_endpoint: FakeEndpoint) -> None:
    """Without a log the lines go to whoever listens only."""
    fake_endpoint.then(streamed("Hello"))
    lines: list[bytes] = []
    result = await bench.runner.run("0190", GREET, None, on_line=lines.append)
    assert result.text == "Hello"
    assert [*read_lines(b"".join(lines).splitlines())][-1]["type"] == "result"
    assert bench.path.read_bytes() == b""


def test_a_log_that_cannot_grow_fails_the_run_alone(fake_endpoint: FakeEndpoint, tmp_path: Path) -> None:
    """A file that may not grow ends the run as `log-not-writable`, on the server too, and leaves whole lines."""
    fake_endpoint.then(sse(events(*deltas(*["x" * 500] * 60), done=False), end=hang()))
    program = """
import asyncio, resource, sys
from pathlib import Path
from service.llm.client import LLMClient
from service.llm.transport import make_http_client
from tests.support.llm_client import llm_client
from service.contract.execution import ExecutionRequest
from service.executions.local_runner import LocalRunner
from service.executions.log_file import LogFile
async def main():
    async with make_http_client(max_connections=4) as http:
        client = llm_client(http, sys.argv[1], model="m", timeout_seconds=20.0)
        runner = LocalRunner(client, "s", timeout_seconds=20.0, idle_seconds=20.0)
        log = LogFile(Path(sys.argv[2]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        result = await runner.run("0190", ExecutionRequest(instructions="x"), log)
        log.close()
        await client.aclose()
    print(result.exit_reason, result.detail, sep="|")
asyncio.run(main())
"""
    path = tmp_path / "stdout.log"
    done = subprocess.run(
        [sys.executable, "-c", program, fake_endpoint.url, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stdout.strip() == "log-not-writable|the log cannot be written: File too large"
    fake_endpoint.wait_for(lambda fake: fake.left_early == 1)
    seen = read_transcript(path.read_bytes().splitlines())
    assert len(seen.streamed) > 10
