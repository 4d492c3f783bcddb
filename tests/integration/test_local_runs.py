"""Local runs against a real llama.cpp server; and the same reader and summary on a transcript of the real `claude`."""

import asyncio
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from service.executions.summary import summarise
from tests.support.agent_clis import AgentCli
from tests.support.execution_fixtures import reached
from tests.support.http_fixtures import OpenApp, RunningApp
from tests.support.llama_server import LlamaServer
from tests.support.stream_reader import read_transcript

PATH = "/v1/executions"
FLAGS = shlex.split(
    "-p --output-format stream-json --verbose --include-partial-messages --bare --model haiku "
    "--system-prompt Brief. --disallowedTools '*'"
)


@pytest.fixture
async def app(open_app: OpenApp, llama_server: LlamaServer, tmp_path: Path) -> RunningApp:
    """A service over the real server."""
    return await open_app(
        local_model={"endpoint": llama_server.endpoint, "model": llama_server.model},
        executions={"log_dir": str(tmp_path / "logs")},
    )


async def created(app: RunningApp, instructions: str, **more: object) -> str:
    """The id of a new execution."""
    answer = await app.client.post(PATH, json={"instructions": instructions, "temperature": 0, **more})
    execution_id: str = answer.raise_for_status().json()["execution_id"]
    return execution_id


async def test_a_real_model_runs_a_task(app: RunningApp, llama_server: LlamaServer) -> None:
    """Its log reads as documented, piece by piece, with the tokens that the server counted."""
    one = await created(app, "Count from one to ten.", max_tokens=40)
    log = (await app.client.get(f"{PATH}/{one}/stdout.log", params={"follow": "true"})).content
    seen = read_transcript(log.splitlines())
    document = (await app.client.get(f"{PATH}/{one}")).json()
    assert document["state"] == "succeeded"
    assert document["exit_reason"] in {"completed", "length"}
    assert document["tokens_in"] > 20
    assert 1 < document["tokens_out"] <= 40
    assert seen.model == llama_server.model
    assert len(seen.streamed) > 1
    assert seen.messages == ["".join(seen.streamed)] == [document["text"]]
    assert seen.result["usage"] == {"input_tokens": document["tokens_in"], "output_tokens": document["tokens_out"]}
    assert summarise(log.splitlines()).text == document["text"]


async def test_a_real_run_is_cancelled(app: RunningApp) -> None:
    """A DELETE in the middle keeps what was written, and the server is free for the next one."""
    assert app.core.executions is not None
    one = await created(app, "Write a very long story about a signalman.", max_tokens=1000)
    chunks = app.core.executions.log(one, follow=True)
    while b"text_delta" not in await anext(chunks):
        pass
    await chunks.aclose()
    assert (await app.client.delete(f"{PATH}/{one}")).json()["state"] == "cancelled"
    document = (await app.client.get(f"{PATH}/{one}")).json()
    assert (document["exit_reason"], document["text"] != "") == ("cancelled", True)
    two = await created(app, "Say hello.", max_tokens=5)
    assert (await reached(app.core.executions, two, "succeeded", "failed")).state == "succeeded"


async def test_a_prompt_over_the_context_fails(app: RunningApp) -> None:
    """The server's refusal is the reason, with its words in the log's last line."""
    one = await created(app, "word " * 20_000)
    assert app.core.executions is not None
    ended = await reached(app.core.executions, one, "succeeded", "failed")
    assert (ended.state, ended.exit_reason) == ("failed", "http-400")
    log = (await app.client.get(f"{PATH}/{one}/stdout.log")).content
    assert "context" in read_transcript(log.splitlines()).result["result"]


async def test_claude_codes_own_transcript_reads_the_same(
    claude_cli: AgentCli, llama_server: LlamaServer, tmp_path: Path
) -> None:
    """What the real program prints is read by the same small reader and by the same summary as our logs."""
    extra = {"stop_sequences": ["\n"], "temperature": 0}
    done = await asyncio.to_thread(
        subprocess.run,
        [str(claude_cli.program), *FLAGS],
        input=b"Say hello.",
        capture_output=True,
        timeout=120,
        check=True,
        cwd=tmp_path,
        env={
            "PATH": claude_cli.path,
            "HOME": str(tmp_path),
            "ANTHROPIC_BASE_URL": llama_server.base_url,
            "ANTHROPIC_API_KEY": "sk-of-this-test",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "64",
            "CLAUDE_CODE_EXTRA_BODY": json.dumps(extra),
        },
    )
    lines = done.stdout.splitlines()
    seen, summary = read_transcript(lines), summarise(lines)
    assert len(seen.streamed) > 1
    assert "".join(seen.streamed) == seen.messages[-1] == seen.result["result"] == summary.text
    assert (summary.ended, summary.is_error) == (True, False)
    assert {"type", "subtype", "is_error", "num_turns", "result"} <= set(seen.result)
