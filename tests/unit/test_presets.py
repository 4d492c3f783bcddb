"""The presets: what each program is started with, and what it may see."""

import json
import sys
from pathlib import Path

import pytest

from service.classifiers import programs
from service.classifiers.preset import CliQuestion, Invocation
from service.classifiers.program import COMMON_ENVIRONMENT, CliClassifier, visible_environment
from service.classifiers.programs import preset_of, program_names
from service.contract.settings import CliSettings
from service.process.workspace import Workspace

SYSTEM = "You choose. Catalog: a, b."
TASK = "Fix the login: p@ss"


def invoke(name: str, *, prompt: str = TASK, model: str = "", **environ: str) -> Invocation:
    """What a preset makes of a question."""
    workspace = Workspace(root=Path("/run/one"))
    return preset_of(name).invoke(
        CliQuestion(system=SYSTEM, prompt=prompt, model=model, environ=environ, workspace=workspace)
    )


@pytest.mark.parametrize("name", program_names())
def test_no_preset_puts_text_into_arguments_or_environment(name: str) -> None:
    """Arguments and environment can be read by others: the task is on stdin only, the fixed part in a file."""
    call = invoke(name)
    assert call.stdin == TASK
    assert not any(SYSTEM in text or TASK in text for text in (*call.arguments, *call.environ.values()))
    assert [name for name, text in call.files.items() if text == SYSTEM] == ["system.md"]
    assert any("/run/one/system.md" in text for text in (*call.arguments, *call.environ.values()))


@pytest.mark.parametrize("name", program_names())
def test_a_configured_model_is_asked_for(name: str) -> None:
    """The model stands right behind its option."""
    arguments = list(invoke(name, model="some-model").arguments)
    assert arguments[arguments.index("some-model") - 1] in {"-m", "--model"}


@pytest.mark.parametrize(
    ("name", "model"), [("gemini", "gemini-2.5-flash"), ("claude", "haiku"), ("codex", None), ("llm", None)]
)
def test_the_model_where_none_is_configured(name: str, model: str | None) -> None:
    """gemini and claude are asked for a small and fast model, the others for their own default."""
    arguments = list(invoke(name).arguments)
    options = [arguments[at + 1] for at, word in enumerate(arguments) if word in {"-m", "--model"}]
    assert options == ([model] if model else [])


def test_gemini_takes_the_model_of_its_own_environment() -> None:
    """GEMINI_MODEL is how gemini itself is told."""
    assert "gemini-x" in invoke("gemini", GEMINI_MODEL="gemini-x").arguments


def test_gemini_is_kept_from_acting() -> None:
    """No tools, hooks, skills, extensions and MCP servers, and no statistics sent."""
    call = invoke("gemini")
    settings = json.loads(call.files["work/.gemini/settings.json"])
    assert settings["tools"] == {"core": []}
    assert settings["hooksConfig"] == settings["skills"] == {"enabled": False}
    assert settings["privacy"] == {"usageStatisticsEnabled": False}
    assert list(call.arguments)[-4:] == ["-e", "none", "-p", ""]


@pytest.mark.parametrize("key", ["", "k" * 20], ids=["login", "key"])
def test_a_key_makes_the_operators_home_needless(key: str) -> None:
    """With a key gemini and claude keep their files in the run's own directory; a login needs the operator's home."""
    gemini = invoke("gemini", GEMINI_API_KEY=key)
    claude = invoke("claude", ANTHROPIC_API_KEY=key)
    assert ("GEMINI_CLI_HOME" in gemini.environ) == ("CLAUDE_CONFIG_DIR" in claude.environ) == bool(key)
    assert ("security" in json.loads(gemini.files["work/.gemini/settings.json"])) == bool(key)
    assert ("--bare" in claude.arguments) == bool(key)
    assert ("--safe-mode" in claude.arguments) == (not key)


def test_claude_is_kept_from_acting_and_rambling() -> None:
    """No tools, no MCP servers, no session kept; the operator's own limits win over the preset's."""
    call = invoke("claude", CLAUDE_CODE_MAX_OUTPUT_TOKENS="300")
    arguments = list(call.arguments)
    assert arguments[arguments.index("--tools") + 1] == ""
    assert {"--strict-mcp-config", "--no-session-persistence", "--disable-slash-commands"} < set(arguments)
    assert call.environ["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "300"
    assert call.environ["MAX_THINKING_TOKENS"] == "0"


def test_codex_is_kept_from_acting() -> None:
    """Read-only, without the user's configuration, shell tool and hooks off, the prompt from stdin."""
    arguments = list(invoke("codex").arguments)
    assert {"read-only", "--ignore-user-config", "features.shell_tool=false", "features.hooks=false"} < set(arguments)
    assert arguments[-1] == "-"


def test_llm_keeps_no_log() -> None:
    """The log of llm is a database in the user's home: tasks do not go there."""
    assert "--no-log" in invoke("llm").arguments


@pytest.mark.parametrize("name", ["gemini", "claude"])
@pytest.mark.parametrize("prompt", ["/help", " !ls", "@file", "?"])
def test_a_task_is_no_command_of_the_program(name: str, prompt: str) -> None:
    """A prompt that looks like one of the program's own commands does not stand at the beginning."""
    assert invoke(name, prompt=prompt).stdin == f"Request:\n{prompt}"


def test_a_command_gets_both_parts_on_stdin() -> None:
    """A command has its own arguments and nothing else; system, blank line, prompt on stdin."""
    assert invoke("command", model="m") == Invocation(arguments=(), stdin=f"{SYSTEM}\n\n{TASK}")


NEW_PROGRAM = """
from service.classifiers.envelope import CliReply
from service.classifiers.preset import Invocation, Preset


def invoke(question):
    return Invocation(arguments=("--ask",), stdin=question.prompt)


def unwrap(stdout, _stderr):
    return CliReply(text=stdout.removeprefix("aider says: "))


PRESET = Preset(invoke=invoke, unwrap=unwrap, recognises=lambda stdout: stdout.startswith("aider says: "))
"""


async def test_a_new_program_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the package is found by its name and classifies, and a command's output is known as its own."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "aider.py").write_text(NEW_PROGRAM)
    program = tmp_path / "aider"
    program.write_text('#!/bin/sh\necho "aider says: $1"; cat\n')
    program.chmod(0o755)
    monkeypatch.setattr(programs, "__path__", [*programs.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"{programs.__name__}.aider", raising=False)
    assert program_names() == ["aider", "claude", "codex", "gemini", "llm"]
    made = CliClassifier.configured(
        CliSettings(preset="aider"), {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    )
    assert made is not None
    try:
        assert (await made.ask(SYSTEM, TASK, timeout_seconds=20)).text == f"--ask\n{TASK}"
    finally:
        await made.aclose()
    assert preset_of("command").unwrap("aider says: yes", "").text == "yes"


def test_the_environment_is_an_allow_list() -> None:
    """Only what is named comes through, prefixes with a star; the service's own settings never do."""
    shown = ("PATH", "LC_ALL", "HTTPS_PROXY", "GEMINI_API_KEY", "EXTRA")
    hidden = ("AWS_SECRET", "LD_PRELOAD", "NODE_OPTIONS", "POINTSMAN_SERVER__TOKEN", "PATHOLOGY")
    environ: dict[str, str] = dict.fromkeys((*shown, *hidden), "value")
    allowed = (*COMMON_ENVIRONMENT, *preset_of("gemini").environment, "EXTRA", "POINTSMAN_SERVER__TOKEN", "POINTSMAN_*")
    visible = visible_environment(environ, allowed)
    assert set(visible) == set(shown)


@pytest.mark.parametrize(
    ("preset", "others"),
    [("gemini", "ANTHROPIC_API_KEY"), ("claude", "GEMINI_API_KEY"), ("codex", "ANTHROPIC_API_KEY")],
)
def test_a_program_does_not_see_another_ones_key(preset: str, others: str) -> None:
    """Each preset allows its own vendor's variables."""
    assert visible_environment({others: "k"}, (*COMMON_ENVIRONMENT, *preset_of(preset).environment)) == {}
