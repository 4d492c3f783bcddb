"""The real agent CLIs through their presets: llm and claude against a real small model, gemini against a stand-in.

A model of 135M parameters answers like a coin, so nothing here asks what it said: only that it was asked and answered.
"""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.classifiers.envelope import CliReply
from service.classifiers.program import CliClassifier
from service.contract.decision import Usage
from service.contract.settings import CliSettings
from service.process.errors import ProcessError
from tests.support.agent_clis import AgentCli
from tests.support.cli_fixtures import Traces
from tests.support.gemini_stand_in import GeminiStandIn, gemini_stand_in
from tests.support.llama_server import LlamaServer

SYSTEM = "You choose an agent. Answer with one JSON object and nothing else."
TASK = "Repair-the-flaky-login-test"
SECRET = "sk-of-this-test-only"

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what is left is looked up in /proc")


@pytest.fixture
def stand_in() -> Generator[GeminiStandIn]:
    """A stand-in for the Gemini API."""
    with gemini_stand_in() as running:
        yield running


@asynccontextmanager
async def opened(
    preset: str, traces: Traces, path: str, *, model: str = "", **environ: str
) -> AsyncGenerator[CliClassifier]:
    """A preset with a home of its own; in the end nothing may be left."""
    home = traces.directory.parent / "home"
    home.mkdir(exist_ok=True)
    program = CliClassifier(
        CliSettings(preset=preset, model=model, environment=["TRACE"], timeout_seconds=120),
        {**traces.environ, "PATH": path, "HOME": str(home), "TMPDIR": str(traces.directory), **environ},
    )
    try:
        assert program.available()
        yield program
    finally:
        await program.aclose()
    await asyncio.to_thread(traces.check_nothing_left)


def gemini_environment(stand_in: GeminiStandIn) -> dict[str, str]:
    """What points gemini to the stand-in."""
    return {"GEMINI_API_KEY": SECRET, "GOOGLE_GEMINI_BASE_URL": stand_in.url}


def claude_environment(llama: LlamaServer) -> dict[str, str]:
    """What points claude to the small model, which is stopped at the end of its first sentence: it might ramble, and
    claude takes an answer that is cut off for none."""
    extra = {"stop_sequences": [".", "\n", "}"], "temperature": 0}
    return {
        "ANTHROPIC_API_KEY": SECRET,
        "ANTHROPIC_BASE_URL": llama.base_url,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "256",
        "CLAUDE_CODE_EXTRA_BODY": json.dumps(extra),
    }


async def test_gemini_answers(gemini_cli: AgentCli, stand_in: GeminiStandIn, traces: Traces) -> None:
    """The reply is unwrapped, the tokens are counted, and the API was asked once, with our text and no tools."""
    stand_in.reply = '{"agent_type": "claude"}'
    async with opened("gemini", traces, gemini_cli.path, **gemini_environment(stand_in)) as program:
        reply = await program.ask(SYSTEM, TASK, timeout_seconds=100)
    assert reply == CliReply(text=stand_in.reply, usage=Usage(tokens_in=120, tokens_out=30))
    [asked] = stand_in.asked
    assert (asked.model, asked.key, asked.tools) == ("gemini-2.5-flash", SECRET, [])
    assert asked.prompt.endswith(TASK)
    assert asked.system.startswith(SYSTEM)
    assert len(asked.system) < 2_000  # its own prompt of 32 KB is replaced


async def test_gemini_keeps_task_text_to_itself(gemini_cli: AgentCli, stand_in: GeminiStandIn, traces: Traces) -> None:
    """While it runs, no process of it shows the task or the key in its arguments; afterwards HOME holds nothing."""
    stand_in.hold = threading.Event()
    async with opened("gemini", traces, gemini_cli.path, **gemini_environment(stand_in)) as program:
        asking = asyncio.create_task(program.ask(SYSTEM, TASK, timeout_seconds=100))
        assert await asyncio.to_thread(stand_in.arrived.wait, 60)
        shown = traces.processes()
        stand_in.hold.set()
        await asking
    assert shown
    assert not any(TASK in line or SYSTEM in line or SECRET in line for line in shown)
    assert list((traces.directory.parent / "home").iterdir()) == []


async def test_gemini_does_not_act_on_the_operators_settings(
    gemini_cli: AgentCli, stand_in: GeminiStandIn, traces: Traces
) -> None:
    """Hooks and MCP servers in the operator's settings are not started by a classification."""
    bait = traces.directory.parent / "bait"
    settings = traces.directory.parent / "home" / ".gemini" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        json.dumps(
            {
                "security": {"auth": {"selectedType": "gemini-api-key"}},
                "mcpServers": {"bait": {"command": "touch", "args": [str(bait)]}},
                "hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": f"touch {bait}"}]}]},
            }
        )
    )
    async with opened("gemini", traces, gemini_cli.path, **gemini_environment(stand_in)) as program:
        await program.ask(SYSTEM, TASK, timeout_seconds=100)
    assert not bait.exists()


async def test_gemini_that_is_refused_says_so(gemini_cli: AgentCli, stand_in: GeminiStandIn, traces: Traces) -> None:
    """An error of the API is a failure with its text; nothing with the task in it is left in temporary files."""
    stand_in.status = 400
    async with opened("gemini", traces, gemini_cli.path, **gemini_environment(stand_in)) as program:
        with pytest.raises(ProcessError, match="gemini exited with status") as caught:
            await program.ask(SYSTEM, TASK, timeout_seconds=100)
    assert "the stand-in refuses" in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_gemini_is_ended_when_nobody_waits(gemini_cli: AgentCli, stand_in: GeminiStandIn, traces: Traces) -> None:
    """Cancelled while the API is silent, gemini and all its processes end."""
    stand_in.hold = threading.Event()
    async with opened("gemini", traces, gemini_cli.path, **gemini_environment(stand_in)) as program:
        asking = asyncio.create_task(program.ask(SYSTEM, TASK, timeout_seconds=100))
        assert await asyncio.to_thread(stand_in.arrived.wait, 60)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_claude_answers(claude_cli: AgentCli, llama_server: LlamaServer, traces: Traces) -> None:
    """claude runs against the real small model: a text, counted tokens, a cost, and HOME untouched."""
    environ = claude_environment(llama_server)
    async with opened("claude", traces, claude_cli.path, **environ) as program:
        reply = await program.ask(SYSTEM, TASK, timeout_seconds=100)
    assert reply.text
    assert reply.usage.tokens_in > 20
    assert 0 < reply.usage.tokens_out <= 256
    assert 0 <= reply.usage.cost_usd < 1
    assert list((traces.directory.parent / "home").iterdir()) == []


async def test_claude_keeps_task_text_to_itself(
    claude_cli: AgentCli, llama_server: LlamaServer, traces: Traces
) -> None:
    """While it runs, no process of it shows the task or the key in its arguments."""
    shown: set[str] = set()
    async with opened("claude", traces, claude_cli.path, **claude_environment(llama_server)) as program:
        asking = asyncio.create_task(program.ask(SYSTEM, TASK, timeout_seconds=100))
        while not asking.done():
            shown.update(traces.processes())
            await asyncio.sleep(0.02)
        await asking
    assert shown
    assert not any(TASK in line or SYSTEM in line or SECRET in line for line in shown)


async def test_claude_without_a_server_says_so(
    claude_cli: AgentCli, traces: Traces, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """Where nothing listens, claude gives up, and its own words are the detail."""
    environ = {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{unused_tcp_port_factory()}"}
    async with opened("claude", traces, claude_cli.path, **environ) as program:
        with pytest.raises(ProcessError, match="claude exited with status 1: it reports: ") as caught:
            await program.ask(SYSTEM, TASK, timeout_seconds=100)
    assert SECRET not in str(caught.value)


@pytest.fixture
def llm_home(llama_server: LlamaServer, tmp_path: Path) -> Path:
    """The directory of llm's configuration, with the small model in it, at most 64 tokens long."""
    home = tmp_path / "llm"
    home.mkdir()
    model = {"model_id": "small", "model_name": llama_server.model, "api_base": llama_server.endpoint}
    (home / "extra-openai-models.yaml").write_text(json.dumps([model]))
    (home / "model_options.json").write_text(json.dumps({"small": {"max_tokens": 64}}))
    return home


async def test_llm_answers(llm_home: Path, traces: Traces) -> None:
    """llm runs against the real small model: a text and counted tokens, and no log of the task."""
    # LLM_LOAD_PLUGINS: the package that carries the model is a plugin too, and would ask for a compiler.
    environ = {"LLM_USER_PATH": str(llm_home), "LLM_LOAD_PLUGINS": "", "OPENAI_API_KEY": SECRET}
    async with opened("llm", traces, str(Path(sys.executable).parent), model="small", **environ) as program:
        reply = await program.ask(SYSTEM, TASK, timeout_seconds=100)
    assert reply.text.strip()
    assert reply.usage.tokens_in > 20
    assert 0 < reply.usage.tokens_out <= 64
    _check_absent(llm_home, TASK)  # its database is made all the same, and is empty


async def test_llm_with_an_unknown_model_says_so(llm_home: Path, traces: Traces) -> None:
    """The program's own words are the detail."""
    environ = {"LLM_USER_PATH": str(llm_home), "LLM_LOAD_PLUGINS": "", "OPENAI_API_KEY": SECRET}
    async with opened("llm", traces, str(Path(sys.executable).parent), model="no-such-model", **environ) as program:
        with pytest.raises(ProcessError, match=r"llm exited with status 1: .*no-such-model"):
            await program.ask(SYSTEM, TASK, timeout_seconds=100)


def _check_absent(directory: Path, text: str) -> None:
    files = list(directory.iterdir())
    assert files
    assert not any(text.encode() in path.read_bytes() for path in files)
