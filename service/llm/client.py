"""The LLM client: one question to an OpenAI-compatible server, one answer, in a bounded time."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import httpx

from service.llm.endpoint import Endpoint
from service.llm.errors import LLMConnectionError, LLMRequestError
from service.llm.exchange import Exchange
from service.llm.lease import Lease
from service.llm.limits import Limits, Timing
from service.llm.retry import retrying
from service.llm.slots import Slots
from service.llm.stream import ChatStream, StreamedAnswer
from service.llm.wire import (
    ChatMessage,
    ChatReply,
    check_extra_body,
    decode_models,
    decode_reply,
    encode_body,
    encode_request,
    says_only_decisions,
)

IDLE_SECONDS = 60.0
"""Between two pieces of an answer. A server that thinks sends its reasoning; one that sends nothing has hung."""

CHAT_PATH = "/chat/completions"

NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


class LLMClient:
    """Asks one model server. Safe to share between tasks of one event loop.

    Of the `limits`: at most `max_concurrency` requests are in flight, and the others wait. 429, 503 and connections
    that fail are tried again after what Retry-After says, or else after waits that double; where such a wait would
    reach the deadline, the call fails at once. A kept-alive connection that turns out to be dropped is replaced at
    once, and that does not count as a try. Every failure is an `LLMError`.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        endpoint: Endpoint,
        *,
        limits: Limits,
        model: str | None = None,
        default_temperature: float | None = None,
        extra_body: Mapping[str, Any] = NO_FIELDS,
        timing: Timing | None = None,
    ) -> None:
        """`http` is lent, see `make_http_client`. `extra_body` is merged into each request last: it may set or replace
        any field but `messages`, `model` and `stream`, else this is an LLMRequestError."""
        check_extra_body(extra_body)
        self.endpoint = endpoint
        self.model = model
        self._limits = limits
        self._default_temperature = default_temperature
        self._extra_body = dict(extra_body)
        self._timing = timing or Timing()
        self._slots = Slots(limits.max_concurrency)
        self._exchange = Exchange(http, endpoint, limits, self._timing)

    @property
    def under_way(self) -> int:
        """How many requests are in flight, those included that their callers left and that are just ending."""
        return self._slots.under_way

    @property
    def waiting(self) -> int:
        return self._slots.waiting

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        model: str | None = None,
        response_format: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_seconds: float | None = None,
    ) -> ChatReply:
        """One answer, or an `LLMError`.

        `timeout_seconds` is for everything: the wait for a slot, every try and every wait between them. What is not
        given falls back to the client's own, and is left out where there is none.
        """
        model = self._chosen(model)
        fields = {"max_tokens": max_tokens, "response_format": response_format}
        body = self._encoded(messages, model, temperature, fields)
        answer = await self._ask("POST", CHAT_PATH, body, timeout_seconds)
        return decode_reply(answer, model=model, secrets=self.endpoint.secrets)

    def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_seconds: float | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> ChatStream:
        """One answer in pieces, as `async with client.chat_stream(...) as stream: async for delta in stream: ...`.

        `timeout_seconds` is for everything, from now to the last piece. Once text flows, `idle_seconds` without any
        more of it are an LLMTimeoutError (`idle-timeout`). What may pass is tried again as in `chat`, but only before
        the first chunk. A malformed chunk is logged and skipped. LLMRequestError is raised here, everything else by
        the iteration.
        """
        model = self._chosen(model)
        fields = {"max_tokens": max_tokens, "stream": True, "stream_options": {"include_usage": True}}
        body = self._encoded(messages, model, temperature, fields)
        deadline = self._deadline(timeout_seconds)
        return ChatStream(
            self._slots,
            self._exchange,
            StreamedAnswer(model=model, secrets=self.endpoint.secrets),
            body=body,
            lease=lambda: Lease(deadline, self._timing.clock),
            retrying=lambda passing: retrying(self._limits, self._timing, deadline=deadline, passing=passing),
            idle_seconds=idle_seconds,
        )

    async def post(self, path: str, fields: Mapping[str, Any], *, timeout_seconds: float | None = None) -> bytes:
        """The body of the answer to these fields and the model's name, or an `LLMError`; retried and timed as `chat`.

        For what is no plain chat: `extra_body` is merged in where the path is that of chat completions only.
        """
        extra = self._extra_body if path == CHAT_PATH else {}
        body = encode_body({"model": self._chosen(None), **fields, **extra})
        return await self._ask("POST", path, body, timeout_seconds)

    async def models(self, timeout_seconds: float | None = None) -> list[str]:
        """The ids of the models that the server offers, or an `LLMError`."""
        return decode_models(await self._ask("GET", "/models", None, timeout_seconds))

    async def only_decides(self, timeout_seconds: float | None = None) -> bool:
        """Whether the server says of the model that it gives decisions and no text, as llama.cpp does in its list."""
        listed = await self._ask("GET", "/models", None, timeout_seconds)
        return says_only_decisions(listed, self._chosen(None))

    async def aclose(self, *, timeout_seconds: float = 5.0) -> None:
        """Takes no more calls, waits that long for those under way, ends the rest. The http client stays open."""
        await self._slots.aclose(timeout_seconds=timeout_seconds)

    def _chosen(self, model: str | None) -> str:
        chosen = model or self.model
        if not chosen:
            raise LLMRequestError("no model is given, and none is configured", problem="no-model")
        return chosen

    def _encoded(
        self, messages: Sequence[ChatMessage], model: str, temperature: float | None, fields: Mapping[str, Any]
    ) -> bytes:
        own = {"temperature": self._default_temperature if temperature is None else temperature}
        return encode_request(messages, model=model, fields={**own, **fields, **self._extra_body})

    async def _ask(self, method: str, path: str, content: bytes | None, timeout_seconds: float | None) -> bytes:
        deadline = self._deadline(timeout_seconds)

        async def once(*, fresh: bool = False) -> bytes:
            lease = Lease(deadline, self._timing.clock)
            try:
                return await self._slots.run(
                    lambda: self._exchange.fetch(method, path, content, lease=lease, fresh=fresh), lease
                )
            except LLMConnectionError:
                if fresh or not lease.stale:
                    raise
            # The server had dropped the kept-alive connection. To ask twice is safe: a question changes nothing.
            return await once(fresh=True)

        return await retrying(self._limits, self._timing, deadline=deadline)(once)

    def _deadline(self, timeout_seconds: float | None) -> float:
        seconds = self._limits.timeout_seconds if timeout_seconds is None else timeout_seconds
        if not math.isfinite(seconds):
            raise LLMRequestError("the time for an answer must be finite")
        return self._timing.clock() + seconds
