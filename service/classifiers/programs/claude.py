"""Claude Code, as seen with 2.1.197."""

import math

import msgspec

from service.classifiers.envelope import CliEnvelopeError, CliReply, Count, decode, decode_or_none, fields_of, reported
from service.classifiers.preset import SYSTEM_FILE, CliQuestion, Invocation, Preset
from service.contract.decision import Usage

MAX_OUTPUT_TOKENS = "4096"
"""A verdict takes some 100 tokens; a model that rambles is cut off here."""


class _Envelope(msgspec.Struct):
    type: str
    is_error: bool
    subtype: str = ""
    result: str | None = None
    total_cost_usd: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _Tokens(msgspec.Struct):
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_input_tokens: Count = 0
    cache_creation_input_tokens: Count = 0


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_TOKENS = msgspec.json.Decoder(_Tokens)
_MONEY = msgspec.json.Decoder(float)


def invoke(question: CliQuestion) -> Invocation:
    """One question without tools, in a session that is not kept; the operator's own limits win."""
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
        environ["CLAUDE_CONFIG_DIR"] = str(question.workspace.home / ".claude")
    return Invocation(
        arguments=(
            *("-p", "--output-format", "json", "--model", question.model or "haiku"),
            *("--system-prompt-file", question.system_file, "--tools", "", "--strict-mcp-config"),
            *("--no-session-persistence", "--disable-slash-commands"),
            # --bare takes nothing but a key; a login by `claude` itself needs the other one.
            "--bare" if has_key else "--safe-mode",
        ),
        stdin=question.words,
        environ=environ,
        files={SYSTEM_FILE: question.system},
    )


def unwrap(stdout: str, _stderr: str) -> CliReply:
    """`result`, `usage` and `total_cost_usd`; `is_error` is a failure."""
    envelope = decode(stdout, _ENVELOPE, "claude -p --output-format json")
    if envelope.type != "result":
        raise CliEnvelopeError("its JSON is not of type `result`")
    if envelope.is_error:
        raise reported(envelope.result or envelope.subtype)
    if envelope.result is None:
        raise CliEnvelopeError(f"its JSON has no `result` ({envelope.subtype})")
    tokens = decode_or_none(envelope.usage, _TOKENS) or _Tokens()
    cost = decode_or_none(envelope.total_cost_usd, _MONEY) or 0.0
    usage = Usage(
        tokens_in=tokens.input_tokens + tokens.cache_read_input_tokens + tokens.cache_creation_input_tokens,
        tokens_out=tokens.output_tokens,
        cost_usd=cost if math.isfinite(cost) and cost >= 0 else 0.0,
    )
    return CliReply(text=envelope.result, usage=usage)


def recognises(stdout: str) -> bool:
    """An object of type `result` that says whether it is an error."""
    fields = fields_of(stdout)
    return fields.get("type") == b'"result"' and "is_error" in fields


PRESET = Preset(
    invoke=invoke,
    unwrap=unwrap,
    environment=("ANTHROPIC_*", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_*", "MAX_THINKING_TOKENS", "API_TIMEOUT_MS"),
    recognises=recognises,
)
