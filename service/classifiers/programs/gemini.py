"""Gemini CLI, as seen with 0.61.0."""

import json
from typing import Any

import msgspec

from service.classifiers.envelope import CliEnvelopeError, CliReply, Count, decode, decode_or_none, fields_of, reported
from service.classifiers.preset import SYSTEM_FILE, CliQuestion, Invocation, Preset
from service.contract.decision import Usage

_SETTINGS: dict[str, object] = {
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
    "privacy": {"usageStatisticsEnabled": False},
    "tools": {"core": []},
    "mcp": {"allowed": ["none"]},
    "hooksConfig": {"enabled": False},
    "skills": {"enabled": False},
    "model": {"maxSessionTurns": 1},
}


class _Envelope(msgspec.Struct):
    response: str | None = None
    error: Any = None
    stats: msgspec.Raw = msgspec.Raw(b"null")


class _Tokens(msgspec.Struct):
    prompt: Count = 0
    candidates: Count = 0
    thoughts: Count = 0


class _Model(msgspec.Struct):
    tokens: _Tokens


class _Stats(msgspec.Struct):
    models: dict[str, _Model]


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_STATS = msgspec.json.Decoder(_Stats)


def invoke(question: CliQuestion) -> Invocation:
    """One question, without tools and without the program's own prompt of 32 KB."""
    settings = dict(_SETTINGS)
    environ = {
        "GEMINI_SYSTEM_MD": question.system_file,
        # The flag alone comes too late: settings of the directory are read before it.
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_CLI_NO_RELAUNCH": "true",
    }
    if question.environ.get("GEMINI_API_KEY"):
        # Without it, a GOOGLE_GEMINI_BASE_URL makes the program refuse its own choice of login ("gateway").
        settings["security"] = {"auth": {"selectedType": "gemini-api-key"}}
        environ["GEMINI_CLI_HOME"] = str(question.workspace.home)
    model = question.model or question.environ.get("GEMINI_MODEL") or "gemini-2.5-flash"
    return Invocation(
        arguments=("--skip-trust", "-o", "json", "-m", model, "-e", "none", "-p", ""),
        stdin=question.words,
        environ=environ,
        # The directory's own settings win over the user's, and unlike system settings they may lie below /tmp.
        files={SYSTEM_FILE: question.system, "work/.gemini/settings.json": json.dumps(settings)},
    )


def unwrap(stdout: str, _stderr: str) -> CliReply:
    """`response`, and token counts by model. It knows no cost."""
    envelope = decode(stdout, _ENVELOPE, "gemini -o json")
    if envelope.error is not None:
        raise reported(envelope.error)
    if envelope.response is None:
        raise CliEnvelopeError("its JSON has no `response`")
    stats = decode_or_none(envelope.stats, _STATS)
    tokens = [model.tokens for model in stats.models.values()] if stats else []
    usage = Usage(
        tokens_in=sum(count.prompt for count in tokens),
        tokens_out=sum(count.candidates + count.thoughts for count in tokens),
    )
    return CliReply(text=envelope.response, usage=usage)


def recognises(stdout: str) -> bool:
    """An object with `stats`, and an answer or an error."""
    fields = fields_of(stdout)
    return "stats" in fields and ("response" in fields or "error" in fields)


PRESET = Preset(
    invoke=invoke, unwrap=unwrap, environment=("GEMINI_*", "GOOGLE_*", "CODE_ASSIST_ENDPOINT"), recognises=recognises
)
