"""How each known agent CLI is asked one question: arguments, environment, files, and what its answer is wrapped in.

In every preset the task goes in on stdin, the fixed part of the prompt in a file that only this run can read, and
nothing of either stands in the arguments, which everybody on the machine can read. Tools, hooks, extensions, MCP
servers and project files are switched off, as far as the program lets itself be told: it is to answer, not to act.

HOME is the operator's, because logins live there (`gemini`, `claude` and `codex` after their own login command). Where
a key is in the environment no login is needed, and gemini and claude get a home of their own that goes with the run.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.classifiers.envelopes import Unwrap, unwrap_any, unwrap_claude, unwrap_codex, unwrap_gemini, unwrap_llm
from service.process.workspace import Workspace

COMMON_ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "XDG_*"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
"""What any program may see; a star at the end stands for any ending."""

OWN_PREFIX = "POINTSMAN_"
"""This service's own settings, its token among them: no program ever sees them."""

MAX_OUTPUT_TOKENS = "4096"
"""A verdict takes some 100 tokens; a model that rambles is cut off here."""

_SYSTEM = "system.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask: the fixed part, the changing part, the model, what the program sees, and its directory."""

    system: str
    prompt: str
    model: str | None
    environ: Mapping[str, str]
    root: Path

    @property
    def whole(self) -> str:
        """Both parts in one text, for programs that know no system prompt."""
        return f"{self.system}\n\n{self.prompt}" if self.system else self.prompt

    @property
    def system_file(self) -> str:
        """Where the fixed part lies once the run has started."""
        return str(self.root / _SYSTEM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Arguments after the program's name, what goes to stdin, variables to add, and files by name below the root."""

    arguments: Sequence[str]
    stdin: str
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A program and how to ask it. `command` begins with the program, `environment` names what it may see besides."""

    name: str
    command: tuple[str, ...]
    invoke: Callable[[Question], Invocation]
    unwrap: Unwrap
    environment: tuple[str, ...] = ()


def _gemini(question: Question) -> Invocation:
    has_key = bool(question.environ.get("GEMINI_API_KEY"))
    settings: dict[str, object] = {
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
        "tools": {"core": []},
        "mcp": {"allowed": ["none"]},
        "hooksConfig": {"enabled": False},
        "skills": {"enabled": False},
        "model": {"maxSessionTurns": 1},
    }
    environ = {
        # Replaces the program's own prompt of 32 KB.
        "GEMINI_SYSTEM_MD": question.system_file,
        # The flag alone comes too late: settings of the directory are read before it.
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_CLI_NO_RELAUNCH": "true",
    }
    if has_key:
        # Without it, a GOOGLE_GEMINI_BASE_URL makes the program refuse its own choice of login ("gateway").
        settings["security"] = {"auth": {"selectedType": "gemini-api-key"}}
        environ["GEMINI_CLI_HOME"] = str(Workspace(root=question.root).home)
    model = question.model or question.environ.get("GEMINI_MODEL") or "gemini-2.5-flash"
    return Invocation(
        arguments=("--skip-trust", "-o", "json", "-m", model, "-e", "none", "-p", ""),
        stdin=_not_a_command(question.prompt),
        environ=environ,
        # The directory's own settings win over the user's, and unlike system settings they may lie below /tmp.
        files={_SYSTEM: question.system, "work/.gemini/settings.json": json.dumps(settings)},
    )


def _claude(question: Question) -> Invocation:
    has_key = bool(question.environ.get("ANTHROPIC_API_KEY"))
    environ = {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": question.environ.get("CLAUDE_CODE_MAX_OUTPUT_TOKENS", MAX_OUTPUT_TOKENS),
        "MAX_THINKING_TOKENS": question.environ.get("MAX_THINKING_TOKENS", "0"),
        # Ten by default, over minutes: whoever asks has another classifier and less time.
        "CLAUDE_CODE_MAX_RETRIES": question.environ.get("CLAUDE_CODE_MAX_RETRIES", "1"),
    }
    if has_key:
        environ["CLAUDE_CONFIG_DIR"] = str(Workspace(root=question.root).home / ".claude")
    return Invocation(
        arguments=(
            *("-p", "--output-format", "json", "--model", question.model or "haiku"),
            *("--system-prompt-file", question.system_file, "--tools", "", "--strict-mcp-config"),
            *("--no-session-persistence", "--disable-slash-commands"),
            # --bare takes nothing but a key; a login by `claude` itself needs the other one.
            "--bare" if has_key else "--safe-mode",
        ),
        stdin=_not_a_command(question.prompt),
        environ=environ,
        files={_SYSTEM: question.system},
    )


def _codex(question: Question) -> Invocation:
    off = (
        "shell_tool",
        "unified_exec",
        "view_image",
        "multi_agent",
        "goals",
        "apps",
        "hooks",
        "plugins",
        "skill_search",
    )
    settings = (
        *(f"features.{name}=false" for name in off),
        *(
            'web_search="disabled"',
            "skills.bundled.enabled=false",
            "project_doc_max_bytes=0",
            "analytics.enabled=false",
        ),
        f"model_instructions_file={json.dumps(question.system_file)}",
    )
    return Invocation(
        arguments=(
            *("exec", "--json", "--skip-git-repo-check", "--ephemeral", "-s", "read-only", "--color", "never"),
            *("--ignore-user-config", "--ignore-rules"),
            *(("-m", question.model) if question.model else ()),
            *(part for setting in settings for part in ("-c", setting)),
            "-",
        ),
        stdin=question.prompt,
        files={_SYSTEM: question.system},
    )


def _llm(question: Question) -> Invocation:
    return Invocation(
        # Its log is a database in the user's home, and would keep every task.
        arguments=(
            *("prompt", "--no-stream", "--no-log", "--usage", "--system-fragment", question.system_file),
            *(("-m", question.model) if question.model else ()),
        ),
        stdin=question.prompt,
        files={_SYSTEM: question.system},
    )


def _command(question: Question) -> Invocation:
    return Invocation(arguments=(), stdin=question.whole)


_LOGINS = ("GEMINI_*", "GOOGLE_*", "ANTHROPIC_*", "OPENAI_*", "CODEX_*", "LLM_*")

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="gemini",
            command=("gemini",),
            invoke=_gemini,
            unwrap=unwrap_gemini,
            environment=("GEMINI_*", "GOOGLE_*", "CODE_ASSIST_ENDPOINT"),
        ),
        Preset(
            name="claude",
            command=("claude",),
            invoke=_claude,
            unwrap=unwrap_claude,
            environment=("ANTHROPIC_*", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_*", "MAX_THINKING_TOKENS", "API_TIMEOUT_MS"),
        ),
        Preset(
            name="codex",
            command=("codex",),
            invoke=_codex,
            unwrap=unwrap_codex,
            environment=("OPENAI_*", "CODEX_*"),
        ),
        Preset(
            name="llm",
            command=("llm",),
            invoke=_llm,
            unwrap=unwrap_llm,
            environment=("LLM_*", "OPENAI_*", "GEMINI_*", "ANTHROPIC_*"),
        ),
    )
}
"""By name. The first is the default."""


def command_preset(command: Sequence[str]) -> Preset:
    """Any program: both parts of the prompt on stdin, and text or one of the known envelopes on stdout.

    `command` is the program and its arguments, no shell. It may see what any of the presets may see.
    """
    if not command or not command[0]:
        raise ValueError("a command needs a program")
    name = Path(command[0]).name or command[0]
    return Preset(name=name, command=tuple(command), invoke=_command, unwrap=unwrap_any, environment=_LOGINS)


def visible_environment(environ: Mapping[str, str], allowed: Sequence[str]) -> dict[str, str]:
    """The part of `environ` that a program may see: names in `allowed`, where `X_*` stands for every name with X_."""
    names = {name for name in allowed if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in allowed if name.endswith("*"))
    return {
        name: value
        for name, value in environ.items()
        if (name in names or name.startswith(prefixes)) and not name.startswith(OWN_PREFIX)
    }


def _not_a_command(prompt: str) -> str:
    """Agent CLIs take a text that begins with a slash for one of their own commands."""
    return f"Request:\n{prompt}" if prompt.lstrip()[:1] in {"/", "!", "?", "#", "@"} else prompt
