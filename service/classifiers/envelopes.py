"""What agent CLIs wrap an answer in, as seen with gemini 0.61.0, claude 2.1.197, codex 0.169.0 and llm 0.36.

The answer is what counts: an envelope without one is an error, one with statistics of another shape is not.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta

from service.contract.decoding import DECODE_ERRORS
from service.contract.errors import PointsmanError

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, le=2**53)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CliReply:
    """A program's answer, unwrapped, and what it told of its cost; None where it told nothing. Cost in US dollars."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    model: str | None = None


class CliEnvelopeError(PointsmanError):
    """A program ended well and yet gave no answer.

    `problem` is `bad-envelope` where its output is not what it should be, `reported-error` where it says in there that
    it failed.
    """

    def __init__(self, message: str, *, problem: str = "bad-envelope") -> None:
        super().__init__(message)
        self.problem = problem


Unwrap = Callable[[str, str], CliReply]
"""From stdout and stderr to the reply; raises CliEnvelopeError."""


class _Gemini(msgspec.Struct):
    response: str | None = None
    error: Any = None
    stats: msgspec.Raw = msgspec.Raw(b"null")


class _GeminiTokens(msgspec.Struct):
    prompt: Count = 0
    candidates: Count = 0
    thoughts: Count = 0


class _GeminiModel(msgspec.Struct):
    tokens: _GeminiTokens


class _GeminiStats(msgspec.Struct):
    models: dict[str, _GeminiModel]


class _Claude(msgspec.Struct):
    type: str
    is_error: bool
    subtype: str = ""
    result: str | None = None
    total_cost_usd: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")
    modelUsage: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815 - the envelope's own name


class _ClaudeUsage(msgspec.Struct):
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_input_tokens: Count = 0
    cache_creation_input_tokens: Count = 0


class _CodexEvent(msgspec.Struct):
    type: str = ""
    item: Any = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None
    message: Any = None


class _CodexUsage(msgspec.Struct):
    input_tokens: Count
    output_tokens: Count


_gemini = msgspec.json.Decoder(_Gemini)
_gemini_stats = msgspec.json.Decoder(_GeminiStats)
_claude = msgspec.json.Decoder(_Claude)
_claude_usage = msgspec.json.Decoder(_ClaudeUsage)
_claude_models = msgspec.json.Decoder(dict[str, Any])
_codex_event = msgspec.json.Decoder(_CodexEvent)
_codex_usage = msgspec.json.Decoder(_CodexUsage)
_money = msgspec.json.Decoder(float)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

_LLM_USAGE = re.compile(r"Token usage: ([\d,]{1,20}) input, ([\d,]{1,20}) output")


def unwrap_gemini(stdout: str, stderr: str = "") -> CliReply:  # noqa: ARG001 - one signature for all
    """`gemini -o json`: `response`, and token counts by model. It knows no cost."""
    envelope = _decode(stdout, _gemini, "gemini -o json")
    if envelope.error is not None:
        raise CliEnvelopeError(f"it reports: {_message(envelope.error)}", problem="reported-error")
    if envelope.response is None:
        raise CliEnvelopeError("its JSON has no `response`")
    stats = _lenient(envelope.stats, _gemini_stats)
    if stats is None or not stats.models:
        return CliReply(text=envelope.response)
    tokens = {model: entry.tokens for model, entry in stats.models.items()}
    return CliReply(
        text=envelope.response,
        tokens_in=sum(count.prompt for count in tokens.values()),
        tokens_out=sum(count.candidates + count.thoughts for count in tokens.values()),
        model=max(tokens, key=lambda model: tokens[model].candidates),
    )


def unwrap_claude(stdout: str, stderr: str = "") -> CliReply:  # noqa: ARG001 - one signature for all
    """`claude -p --output-format json`: `result`, `usage`, `total_cost_usd`; `is_error` is a failure."""
    envelope = _decode(stdout, _claude, "claude -p --output-format json")
    if envelope.type != "result":
        raise CliEnvelopeError("its JSON is not of type `result`")
    if envelope.is_error:
        raise CliEnvelopeError(f"it reports: {envelope.result or envelope.subtype}", problem="reported-error")
    if envelope.result is None:
        raise CliEnvelopeError(f"its JSON has no `result` ({envelope.subtype})")
    usage = _lenient(envelope.usage, _claude_usage)
    cost = _lenient(envelope.total_cost_usd, _money)
    models = _lenient(envelope.modelUsage, _claude_models) or {}
    read = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens if usage else None
    return CliReply(
        text=envelope.result,
        tokens_in=read,
        tokens_out=usage.output_tokens if usage else None,
        cost_usd=cost if cost is not None and math.isfinite(cost) and cost >= 0 else None,
        model=next(iter(models), None),
    )


def unwrap_codex(stdout: str, stderr: str = "") -> CliReply:  # noqa: ARG001 - one signature for all
    """`codex exec --json`: JSON lines; the last `agent_message` is the answer, `turn.completed` has the tokens."""
    text: str | None = None
    usage: _CodexUsage | None = None
    for line in stdout.splitlines():
        if not line.strip():
            continue
        event = _decode(line, _codex_event, "codex exec --json")
        if event.type == "turn.failed":
            raise CliEnvelopeError(f"it reports: {_message(event.error)}", problem="reported-error")
        if event.type == "turn.completed":
            usage = _lenient(event.usage, _codex_usage)
        elif event.type == "item.completed":
            text = _agent_message(event.item) or text
    if text is None:
        raise CliEnvelopeError("its JSON lines hold no `agent_message`")
    if usage is None:
        return CliReply(text=text)
    return CliReply(text=text, tokens_in=usage.input_tokens, tokens_out=usage.output_tokens)


def unwrap_llm(stdout: str, stderr: str = "") -> CliReply:
    """`llm --usage`: plain text, and on stderr a line with the tokens."""
    if not stdout.strip():
        raise CliEnvelopeError("it printed nothing")
    if not (found := _LLM_USAGE.search(stderr)):
        return CliReply(text=stdout)
    read, wrote = (int(number.replace(",", "") or 0) for number in found.groups())
    return CliReply(text=stdout, tokens_in=read, tokens_out=wrote)


def unwrap_any(stdout: str, stderr: str = "") -> CliReply:
    """Whatever a command prints: one of the envelopes above where it is one, else the text as it is."""
    text = stdout.lstrip("\ufeff \t\r\n")
    if not text.strip():
        raise CliEnvelopeError("it printed nothing")
    first = _lenient(text.encode(errors="replace"), _object)
    if first is None:
        line = _lenient(text.partition("\n")[0].encode(errors="replace"), _object)
        is_codex = line is not None and bytes(line.get("type", b"")) == b'"thread.started"'
        return unwrap_codex(text) if is_codex else CliReply(text=stdout)
    if bytes(first.get("type", b"")) == b'"result"' and "is_error" in first:
        return unwrap_claude(text)
    if "stats" in first and ("response" in first or "error" in first):
        return unwrap_gemini(text)
    return unwrap_llm(stdout, stderr)


def _decode(text: str, decoder: "msgspec.json.Decoder[T]", what: str) -> T:
    try:
        return decoder.decode(text.strip("\ufeff \t\r\n"))
    except DECODE_ERRORS as error:
        raise CliEnvelopeError(f"its output is not that of `{what}`: {str(error)[:200]}") from None


def _lenient(raw: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[T]") -> T | None:
    try:
        return decoder.decode(raw)
    except DECODE_ERRORS:
        return None


def _agent_message(item: object) -> str | None:
    if not isinstance(item, dict):
        return None
    entry = cast("dict[str, object]", item)
    text = entry.get("text")
    return text if entry.get("type") == "agent_message" and isinstance(text, str) else None


def _message(error: object) -> str:
    message = cast("dict[str, object]", error).get("message") if isinstance(error, dict) else None
    return str(error if message is None else message)[:1000]  # pyright: ignore[reportUnknownArgumentType] - any JSON
