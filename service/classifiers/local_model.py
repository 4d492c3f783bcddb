"""The local model as a classifier: one question, one repair turn, everything validated."""

import os
import time
from collections.abc import Callable
from typing import Any

from service.classifiers.classifier import KEPT_REPLY, Blame, Brief, Classified, ClassifierError
from service.classifiers.verdict import VerdictError, read_verdict
from service.contract.decision import Source, Usage
from service.contract.settings import LocalModelSettings
from service.llm.client import LLMClient
from service.llm.errors import LLMError, LLMStatusError, LLMTimeoutError
from service.llm.wire import ChatMessage, ChatReply

_REPAIR_SHARE = 0.5
"""A repair is tried while at least half of what the first answer took is left: it is the same work, prefix cached."""


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
        """Only asking tells."""
        return True

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """Names an eligible candidate, or raises ClassifierError."""
        started = self._clock()
        question = brief.prompts.question(
            brief.task,
            brief.eligible,
            value_usd=brief.value_usd,
            max_task_tokens=self._settings.max_task_tokens,
            random_bytes=self._random_bytes,
        )
        messages = [
            ChatMessage(role="system", content=question.system),
            ChatMessage(role="user", content=question.user),
        ]
        usage = Usage()
        while True:
            left = timeout_seconds - (self._clock() - started)
            reply = await self._ask(messages, brief, left, usage)
            usage = _add(usage, reply)
            text = self._masked(reply.content)
            try:
                verdict = read_verdict(text, brief.eligible, brief.catalog.candidates)
            except VerdictError as error:
                spent = self._clock() - started
                if len(messages) > 2 or timeout_seconds - spent < spent * _REPAIR_SHARE:
                    raise _useless(error, reply, text, usage, question.user) from None
                messages += [
                    ChatMessage(role="assistant", content=text[:2000]),
                    ChatMessage(role="user", content=brief.prompts.repair(str(error), brief.eligible)),
                ]
                continue
            return Classified(verdict=verdict, usage=usage, prompt=question.user, reply=text[:KEPT_REPLY])

    async def aclose(self) -> None:
        """Nothing of its own: whoever made the client closes it."""

    def _masked(self, text: str) -> str:
        """Without the key: a server that is asked with it may well answer with it, and reasons are shown and kept."""
        for secret in self._client.endpoint.secrets:
            text = text.replace(secret, "***")
        return text

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
                blame=_blame(error, patience_seconds=self.patience_seconds, repairing=len(messages) > 2),
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


def _schema(brief: Brief, *, with_reason: bool) -> dict[str, Any]:
    """The flat spelling of a JSON schema is silently not applied by servers; this nested one is."""
    properties: dict[str, Any] = {
        "code": {"type": "string", "enum": brief.prompts.codes(brief.eligible)},
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


def _blame(error: LLMError, *, patience_seconds: float, repairing: bool) -> Blame:
    if isinstance(error, LLMTimeoutError) and repairing:
        return Blame.REPLY  # it had answered, with something of no use: a task text can make it do so, and slowly
    if isinstance(error, LLMTimeoutError) and error.server_seconds < patience_seconds:
        return Blame.REQUEST  # neither a caller in haste nor a queue of our own says anything about the server
    if isinstance(error, LLMStatusError) and error.status in {400, 413, 422}:
        return Blame.REQUEST
    if error.problem == "no-content":
        return Blame.REPLY  # a reasoning model thought until max_tokens, which a task text can make it do
    return Blame.CLASSIFIER


def _useless(error: VerdictError, reply: ChatReply, text: str, usage: Usage, prompt: str) -> ClassifierError:
    cut = reply.finish_reason == "length"
    detail = f"{error} (cut off at max_tokens)" if cut else str(error)
    return ClassifierError(
        "truncated" if cut else error.problem,
        detail,
        blame=Blame.REPLY,
        usage=usage,
        prompt=prompt,
        reply=text[:KEPT_REPLY],
    )


def _add(usage: Usage, reply: ChatReply) -> Usage:
    if reply.usage is None:
        return usage
    return Usage(
        tokens_in=usage.tokens_in + reply.usage.tokens_in,
        tokens_out=usage.tokens_out + reply.usage.tokens_out,
        cost_usd=usage.cost_usd,
    )
