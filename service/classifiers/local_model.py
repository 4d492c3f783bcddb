"""The local model as a classifier: one question, one repair turn, everything validated."""

import os
import time
from collections.abc import Callable
from typing import Any

from service.base.secrets import masked
from service.classifiers.classifier import KEPT_REPLY, Blame, Brief, Classified, ClassifierError, total
from service.classifiers.verdict import Verdict, VerdictError, read_verdict
from service.contract.decision import Source, Usage
from service.contract.settings import LocalModelSettings
from service.llm.client import LLMClient
from service.llm.errors import LLMError, LLMStatusError, LLMTimeoutError
from service.llm.wire import ChatMessage, ChatReply

_REPAIR_SHARE = 0.5
"""A repair is tried while at least half of what the first answer took is left: it is the same work, prefix cached."""

_QUOTED_REPLY = 2_000
"""Characters of a useless reply that the model is shown again."""


class LocalModelClassifier:
    """Asks an OpenAI-compatible server through `client`, which is lent and not closed here."""

    source: Source = "local_model"
    least_seconds = 0.0
    patience_seconds = 1.0

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
        self.name = settings.model
        self.timeout_seconds = settings.timeout_seconds

    def available(self) -> bool:
        """True: only asking tells."""
        return True

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
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

    async def aclose(self) -> None:
        """Does nothing: whoever made the client closes it."""

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
            raise ClassifierError(
                error.problem,
                str(error),
                blame=self._blame(error, repairing=len(messages) > 2),
                retry_after=error.retry_after,
                usage=usage,
                prompt=messages[1].content,
            ) from None

    def _response_format(self, brief: Brief) -> dict[str, Any] | None:
        match self._settings.response_format:
            case "json_object":
                return {"type": "json_object"}
            case "json_schema":
                return _schema(brief, with_reason=self._settings.reason)
            case "none":
                return None

    def _blame(self, error: LLMError, *, repairing: bool) -> Blame:
        if isinstance(error, LLMTimeoutError) and repairing:
            return Blame.REPLY  # it had answered, with something of no use: a task text can make it do so, and slowly
        if isinstance(error, LLMTimeoutError) and error.server_seconds < self.patience_seconds:
            return Blame.REQUEST  # neither a caller in haste nor a queue of our own says anything about the server
        if isinstance(error, LLMStatusError) and error.status in {400, 413, 422}:
            return Blame.REQUEST
        if error.problem == "no-content":
            return Blame.REPLY  # a reasoning model thought until max_tokens, which a task text can make it do
        return Blame.CLASSIFIER


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
