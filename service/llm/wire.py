"""What goes to the model server and what comes back, in the shape of OpenAI's chat completions.

Source: the API reference of `POST /v1/chat/completions`; and what llama.cpp, vLLM, Ollama and LM Studio really send.
Only what is needed must have its right type. The rest is read where it fits and is otherwise as if it were not there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from service.base.secrets import masked_line
from service.base.text import one_line
from service.contract.decision import Usage
from service.contract.decoding import DECODE_ERRORS
from service.llm.errors import BODY_CHARS, LLMReplyError, LLMRequestError

Role = Literal["system", "user", "assistant"]

RESERVED_FIELDS = frozenset({"messages", "model", "stream"})
"""What `extra_body` may not set: the first two are the caller's question, the third decides how the answer is read."""


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of the conversation."""

    role: Role
    content: str


class ChatReply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `reasoning` is what a reasoning model thought aloud, and never part of `content`.

    `finish_reason` is the server's own word: `stop`, or `length` where the answer was cut off by a limit.
    """

    content: str
    model: str
    finish_reason: str | None = None
    usage: Usage | None = None
    reasoning: str | None = None


class StreamDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an answer as it came; one of the two may be empty, never both."""

    content: str = ""
    reasoning: str = ""


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: Any = None


class Completion(msgspec.Struct, frozen=True):
    """A whole answer, or one event of a streamed one."""

    choices: list[_Choice] | None = None
    model: Any = None
    usage: Any = None
    error: Any = None


class _Architecture(msgspec.Struct, frozen=True):
    output_modalities: list[str] = []


class _Model(msgspec.Struct, frozen=True):
    id: str
    architecture: Any = None


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ENCODER = msgspec.json.Encoder()
_COMPLETION = msgspec.json.Decoder(Completion)
_MODELS = msgspec.json.Decoder(_Models)


def encode_request(messages: Iterable[ChatMessage], *, model: str, fields: Mapping[str, Any]) -> bytes:
    """The body of a request; `fields` that are None are left out. LLMRequestError where it is no JSON."""
    body = {
        "model": model,
        "messages": list(messages),
        **{name: value for name, value in fields.items() if value is not None},
    }
    return encode_body(body)


def encode_body(body: Mapping[str, Any]) -> bytes:
    """The body of any request. LLMRequestError where it is no JSON."""
    try:
        return _ENCODER.encode(body)
    except UnicodeError:
        raise LLMRequestError("the text holds a lone surrogate, which is no Unicode", problem="not-unicode") from None
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise LLMRequestError(f"the request is no JSON: {one_line(str(error), BODY_CHARS)}") from None


def check_extra_body(extra: Mapping[str, Any]) -> None:
    """LLMRequestError where `extra` sets what is not its to set."""
    taken = sorted(RESERVED_FIELDS.intersection(extra))
    if taken:
        raise LLMRequestError(f"extra_body may not set {', '.join(taken)}", problem="reserved-field")


def decode_reply(body: bytes, *, model: str, secrets: Sequence[str] = ()) -> ChatReply:
    """The answer in `body`, or LLMReplyError that says what is wrong with it. `model` is named where the body is not.

    The error text holds nothing of the body but the server's own `error.message`, with `secrets` taken out.
    """
    completion = decoded(_COMPLETION, body)
    if not completion.choices:
        told = error_message(completion.error, secrets=secrets)
        said = f"; the server says: {told}" if told else ""
        raise LLMReplyError(f"the answer has no choices{said}", problem="no-choices")
    choice = completion.choices[0]
    if choice.message is None:
        raise LLMReplyError("the answer has no message", problem="wrong-shape")
    finish_reason = text_or_none(choice.finish_reason)
    if choice.message.content is None:
        why = f" (finish_reason {one_line(finish_reason, 60)})" if finish_reason else ""
        raise LLMReplyError(f"the answer has no content{why}", problem="no-content")
    return ChatReply(
        content=choice.message.content,
        model=text_or_none(completion.model) or model,
        finish_reason=finish_reason,
        usage=usage_of(completion.usage),
        reasoning=reasoning_of(choice.message) or None,
    )


def decode_chunk(data: bytes) -> Completion | None:
    """One event of a stream, or None where it is malformed."""
    try:
        return _COMPLETION.decode(data)
    except DECODE_ERRORS:
        return None


def decode_models(body: bytes) -> list[str]:
    """The ids in the answer of `GET /models`, or LLMReplyError."""
    return [model.id for model in decoded(_MODELS, body).data]


def says_only_decisions(body: bytes, model: str) -> bool:
    """Whether the answer of `GET /models` says of that model that it gives nothing but decisions; or LLMReplyError."""
    for listed in decoded(_MODELS, body).data:
        if listed.id == model:
            try:
                return msgspec.convert(listed.architecture, _Architecture).output_modalities == ["decisions"]
            except msgspec.ValidationError:
                return False
    return False


def usage_of(raw: object) -> Usage | None:
    """The token counts in a `usage` object, None where there are none that can be read."""
    if not isinstance(raw, dict):
        return None
    try:
        usage = msgspec.convert(raw, _Usage)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return Usage(tokens_in=max(0, usage.prompt_tokens), tokens_out=max(0, usage.completion_tokens or 0))


def reasoning_of(message: _Message) -> str:
    """What the model thought aloud: `reasoning_content` (llama.cpp, vLLM, DeepSeek) or `reasoning` (Ollama, vLLM)."""
    return text_or_none(message.reasoning_content) or text_or_none(message.reasoning) or ""


def error_message(error: object, *, secrets: Sequence[str] = ()) -> str:
    """The words in an `error` member: an object with `message`, or a plain string; empty where there are none."""
    found = cast("dict[str, object]", error).get("message") if isinstance(error, dict) else error
    return masked_line(found, BODY_CHARS, secrets) if isinstance(found, str) else ""


def text_or_none(value: object) -> str | None:
    """`value` where it is text that says something."""
    return value if isinstance(value, str) and value else None


def decoded(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:  # noqa: ANN401 - whatever type the decoder has
    """The answer in `body`, or LLMReplyError that says what is wrong with it."""
    try:
        return decoder.decode(body.removeprefix(_BYTE_ORDER_MARK))
    except msgspec.ValidationError as error:
        what = one_line(str(error), BODY_CHARS)
        raise LLMReplyError(f"the answer has the wrong shape: {what}", problem="wrong-shape") from None
    except msgspec.DecodeError as error:
        what = "is empty" if not body.strip() else f"is not JSON: {one_line(str(error), BODY_CHARS)}"
        raise LLMReplyError(f"the answer {what}", problem="not-json") from None
    except UnicodeError:
        raise LLMReplyError("the answer is not UTF-8", problem="not-utf8") from None
    except RecursionError:
        raise LLMReplyError("the answer is nested too deeply", problem="too-deep") from None
