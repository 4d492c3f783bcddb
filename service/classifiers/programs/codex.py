"""Codex CLI, as seen with 0.169.0."""

import json
from typing import Any, cast

import msgspec

from service.classifiers.envelope import CliEnvelopeError, CliReply, Count, decode, decode_or_none, fields_of, reported
from service.classifiers.preset import SYSTEM_FILE, CliQuestion, Invocation, Preset
from service.contract.decision import Usage

_OFF = (
    *("shell_tool", "unified_exec", "view_image", "multi_agent", "goals"),
    *("apps", "hooks", "plugins", "skill_search"),
)
_SETTINGS = (
    *(f"features.{name}=false" for name in _OFF),
    *('web_search="disabled"', "skills.bundled.enabled=false", "project_doc_max_bytes=0", "analytics.enabled=false"),
)


class _Event(msgspec.Struct):
    type: str = ""
    item: Any = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


class _Tokens(msgspec.Struct):
    input_tokens: Count
    output_tokens: Count


_EVENT = msgspec.json.Decoder(_Event)
_TOKENS = msgspec.json.Decoder(_Tokens)


def invoke(question: CliQuestion) -> Invocation:
    """One question in a read-only sandbox, without the user's configuration and without tools."""
    settings = (*_SETTINGS, f"model_instructions_file={json.dumps(question.system_file)}")
    return Invocation(
        arguments=(
            *("exec", "--json", "--skip-git-repo-check", "--ephemeral", "-s", "read-only", "--color", "never"),
            *("--ignore-user-config", "--ignore-rules"),
            *(("-m", question.model) if question.model else ()),
            *(part for setting in settings for part in ("-c", setting)),
            "-",
        ),
        stdin=question.prompt,
        files={SYSTEM_FILE: question.system},
    )


def unwrap(stdout: str, _stderr: str) -> CliReply:
    """The last `agent_message` of its JSON lines is the answer, `turn.completed` has the tokens."""
    text: str | None = None
    usage = Usage()
    for line in stdout.splitlines():
        if not line.strip():
            continue
        event = decode(line, _EVENT, "codex exec --json")
        if event.type == "turn.failed":
            raise reported(event.error)
        if event.type == "turn.completed":
            tokens = decode_or_none(event.usage, _TOKENS) or _Tokens(0, 0)
            usage = Usage(tokens_in=tokens.input_tokens, tokens_out=tokens.output_tokens)
        elif event.type == "item.completed":
            text = _agent_message(event.item) or text
    if text is None:
        raise CliEnvelopeError("its JSON lines hold no `agent_message`")
    return CliReply(text=text, usage=usage)


def recognises(stdout: str) -> bool:
    """JSON lines, the first of which starts a thread."""
    return fields_of(stdout.lstrip("\ufeff \t\r\n").partition("\n")[0]).get("type") == b'"thread.started"'


def _agent_message(item: object) -> str | None:
    if not isinstance(item, dict):
        return None
    entry = cast("dict[str, object]", item)
    text = entry.get("text")
    return text if entry.get("type") == "agent_message" and isinstance(text, str) else None


PRESET = Preset(invoke=invoke, unwrap=unwrap, environment=("OPENAI_*", "CODEX_*"), recognises=recognises)
