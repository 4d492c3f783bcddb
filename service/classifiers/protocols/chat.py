"""The protocol `chat`: one JSON object, one repair turn, everything validated."""

import os
import time
from collections.abc import Callable
from typing import Any

from service.base.secrets import masked
from service.classifiers.classifier import KEPT_REPLY, Blame, Brief, Classified, ClassifierError, total
from service.classifiers.protocols.asking import failure
from service.classifiers.verdict import Verdict, VerdictError, read_verdict
from service.contract.decision import Usage
from service.contract.settings import LocalModelSettings, ProtocolName
from service.llm.client import LLMClient
from service.llm.errors import LLMError
from service.llm.wire import ChatMessage, ChatReply

_REPAIR_SHARE = 0.5
"""A repair is tried while at least half of what the first answer took is left: it is the same work, prefix cached."""

_QUOTED_REPLY = 2_000
"""Characters of a useless reply that the model is shown again."""


class Chat:
    """Asks through `client`, which is lent."""

    name: ProtocolName = "chat"

    def __init__(
        self,
        client: LLMClient,
        settings: LocalModelSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._random_bytes = random_bytes

    async def ask(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """Names an eligible candidate, or raises ClassifierError."""
        started = self._clock()
        question = brief.question(max_task_tokens=self._settings.max_task_tokens, random_bytes=self._random_bytes)
        messages = [
            ChatMessage(role="system", content=question.system),
            ChatMessage(role="user", content=question.user),
        ]
        reply = await self._ask(messages, brief, timeout_seconds, Usage())
        usage, text = reply.usage or Usage(), self._text(reply)
        read = _read(text, brief)
        spent = self._clock() - started
        if isinstance(read, VerdictError) and timeout_seconds - spent >= spent * _REPAIR_SHARE:
            messages += [
                ChatMessage(role="assistant", content=text[:_QUOTED_REPLY]),
                ChatMessage(role="user", content=brief.prompts.repair(str(read), brief.eligible)),
            ]
            reply = await self._ask(messages, brief, timeout_seconds - spent, usage)
            usage, text = total(usage, reply.usage or Usage()), self._text(reply)
            read = _read(text, brief)
        if isinstance(read, VerdictError):
            cut = reply.finish_reason == "length"
            raise ClassifierError(
                "truncated" if cut else read.problem,
                f"{read} (cut off at max_tokens)" if cut else str(read),
                blame=Blame.REPLY,
                usage=usage,
                prompt=question.user,
                reply=text[:KEPT_REPLY],
            )
        return Classified(verdict=read, usage=usage, prompt=question.user, reply=text[:KEPT_REPLY])

    def _text(self, reply: ChatReply) -> str:
        """Without the key: a server that is asked with it may well answer with it, and reasons are shown and kept."""
        return masked(reply.content, self._client.endpoint.secrets)

    async def _ask(self, messages: list[ChatMessage], brief: Brief, seconds: float, usage: Usage) -> ChatReply:
        try:
            return await self._client.chat(
                messages,
                response_format=self._response_format(brief),
                max_tokens=self._settings.max_tokens,
                timeout_seconds=seconds,
            )
        except LLMError as error:
            raise failure(error, prompt=messages[1].content, usage=usage, repairing=len(messages) > 2) from None

    def _response_format(self, brief: Brief) -> dict[str, Any] | None:
        match self._settings.response_format:
            case "json_object":
                return {"type": "json_object"}
            case "json_schema":
                return _schema(brief, with_reason=self._settings.reason)
            case "none":
                return None


def _schema(brief: Brief, *, with_reason: bool) -> dict[str, Any]:
    """The flat spelling of a JSON schema is silently not applied by servers; this nested one is."""
    properties: dict[str, Any] = {
        "code": {"type": "string", "enum": brief.prompts.codes(brief.eligible)},
        **({"kind": {"type": "string", "enum": list(kinds)}} if (kinds := brief.catalog.kind_ids) else {}),
        "minutes": {"type": "number"},
        "confidence": {"type": "number"},
    }
    if with_reason:
        properties["reason"] = {"type": "string", "maxLength": 200}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}


def _read(text: str, brief: Brief) -> Verdict | VerdictError:
    try:
        return read_verdict(text, brief.eligible, brief.catalog.candidates, brief.catalog.kind_ids)
    except VerdictError as error:
        return error
