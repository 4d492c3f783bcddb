"""The LLM client: one question to an OpenAI-compatible server, one answer, in a bounded time."""

import asyncio
import math
import random as random_module
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import httpx
from tenacity import AsyncRetrying

from service.llm.errors import LLMConnectionError, LLMError, LLMRequestError
from service.llm.exchange import Endpoint, Exchange
from service.llm.retry import Sleep, is_passing, retrying
from service.llm.slots import Slots
from service.llm.stream import ChatStream, StreamedAnswer
from service.llm.transport import Lease, make_http_client
from service.llm.wire import ChatMessage, ChatReply, check_extra_body, decode_models, decode_reply, encode_request

__all__ = ["LLMClient", "make_http_client"]

MAX_BODY_BYTES = 1_048_576
"""1 MiB: a verdict has 300 bytes, and the longest answer of a local model some 100 KB."""

MAX_STREAM_BYTES = 33_554_432
"""32 MiB: some 100,000 tokens, each in a chunk of 300 bytes."""

IDLE_SECONDS = 60.0
"""Between two pieces of an answer. A server that thinks sends its reasoning; one that sends nothing has hung."""

FIRST_WAIT_SECONDS = 1.0
"""Before the second try, where the server does not say; twice as long before the third."""

NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


class LLMClient:
    """Asks one model server. Safe to share between tasks of one event loop.

    At most `max_concurrency` requests are in flight; the others wait. 429, 503 and connections that fail are tried
    again, at most `max_attempts` tries in all, after what Retry-After says or else after 1 to 1.25 s, then 2 to 2.5 s;
    where that wait would reach the deadline, the call fails at once, and without `waits_when_told` it does so for any
    Retry-After. A kept-alive connection that turns out to be dropped is replaced at once, and that does not count as
    a try. Every failure is an `LLMError`.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        endpoint: str,
        *,
        timeout_seconds: float,
        model: str | None = None,
        api_key: str | None = None,
        default_temperature: float | None = None,
        response_format: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] = NO_FIELDS,
        max_concurrency: int = 8,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_attempts: int = 3,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
        waits_when_told: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`http` is lent, see `make_http_client`; `endpoint` goes up to `/v1`. `extra_body`: see `chat`.

        LLMRequestError where the endpoint or the key cannot be used, or `extra_body` sets what it may not.
        """
        check_extra_body(extra_body)
        self.endpoint = Endpoint(endpoint, api_key=api_key)
        self.model = model
        self._timeout_seconds = timeout_seconds
        self._default_temperature = default_temperature
        self._response_format = response_format
        self._extra_body = dict(extra_body)
        self._max_attempts = max_attempts
        self._first_wait_seconds = first_wait_seconds
        self._waits_when_told = waits_when_told
        self._clock = clock
        self._random = random
        self._sleep = sleep
        self._slots = Slots(max_concurrency)
        self._exchange = Exchange(http, self.endpoint, max_body_bytes=max_body_bytes, wall_clock=wall_clock)

    @property
    def under_way(self) -> int:
        """How many requests are in flight, those included that their callers left and that are just ending."""
        return self._slots.under_way

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return self._slots.waiting

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        model: str | None = None,
        response_format: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        extra_body: Mapping[str, Any] = NO_FIELDS,
        timeout_seconds: float | None = None,
    ) -> ChatReply:
        """One answer, or an `LLMError`.

        `timeout_seconds` is for everything: the wait for a slot, every try and every wait between them. What is not
        given falls back to the client's own setting, and is left out where there is none. The client's `extra_body`,
        then this one, are merged into the request last: they may set or replace any field but `messages`, `model`
        and `stream`.
        """
        body = self._request(
            messages,
            model=model,
            extra_body=extra_body,
            fields={
                "temperature": self._default_temperature if temperature is None else temperature,
                "max_tokens": max_tokens,
                "stop": stop,
                "response_format": response_format or self._response_format,
            },
        )
        answer = await self._ask("POST", "/chat/completions", body, timeout_seconds)
        return decode_reply(answer, model=model or self.model or "", secret=self.endpoint.secrets)

    def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        extra_body: Mapping[str, Any] = NO_FIELDS,
        timeout_seconds: float | None = None,
        idle_seconds: float = IDLE_SECONDS,
        max_bytes: int = MAX_STREAM_BYTES,
    ) -> ChatStream:
        """One answer in pieces, as `async with client.chat_stream(...) as stream: async for delta in stream: ...`.

        `timeout_seconds` is for everything, from now to the last piece. Once text flows, `idle_seconds` without any
        more of it are an LLMTimeoutError (`idle-timeout`), and more than `max_bytes` as sent an LLMReplyError
        (`too-large`). What may pass is tried again as in `chat`, but only before the first chunk. A malformed chunk
        is logged and skipped. The configured `response_format` is for verdicts and is not sent. LLMRequestError is
        raised here, everything else by the iteration.
        """
        body = self._request(
            messages,
            model=model,
            extra_body=extra_body,
            fields={
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": self._default_temperature if temperature is None else temperature,
                "max_tokens": max_tokens,
                "stop": stop,
            },
        )
        deadline = self._deadline(timeout_seconds)
        return ChatStream(
            self._slots,
            self._exchange,
            body,
            StreamedAnswer(model=model or self.model or "", secret=self.endpoint.secrets),
            lease=lambda: Lease(deadline, self._clock),
            retrying=lambda passing: self._retrying(deadline, passing),
            idle_seconds=idle_seconds,
            max_bytes=max_bytes,
        )

    async def models(self, timeout_seconds: float | None = None) -> list[str]:
        """The ids of the models that the server offers, or an `LLMError`."""
        return decode_models(await self._ask("GET", "/models", None, timeout_seconds))

    async def aclose(self, *, timeout_seconds: float = 5.0) -> None:
        """Takes no more calls, waits that long for those under way, ends the rest. The http client stays open."""
        await self._slots.aclose(timeout_seconds=timeout_seconds)

    def _request(
        self,
        messages: Sequence[ChatMessage],
        *,
        model: str | None,
        fields: Mapping[str, Any],
        extra_body: Mapping[str, Any],
    ) -> bytes:
        chosen = model or self.model
        if not chosen:
            raise LLMRequestError("no model is given, and none is configured", problem="no-model")
        check_extra_body(extra_body)
        return encode_request(messages, model=chosen, fields={**fields, **self._extra_body, **extra_body})

    async def _ask(self, method: str, path: str, content: bytes | None, timeout_seconds: float | None) -> bytes:
        deadline = self._deadline(timeout_seconds)
        return await self._retrying(deadline)(self._try_once, method, path, content, deadline)

    async def _try_once(self, method: str, path: str, content: bytes | None, deadline: float) -> bytes:
        lease = Lease(deadline, self._clock)
        try:
            return await self._slots.run(lambda: self._exchange.fetch(method, path, content, lease=lease), lease)
        except LLMConnectionError:
            if not lease.stale:
                raise
        # The server had dropped the kept-alive connection. To ask twice is safe: a question changes nothing.
        again = Lease(deadline, self._clock)
        return await self._slots.run(
            lambda: self._exchange.fetch(method, path, content, lease=again, fresh=True), again
        )

    def _retrying(self, deadline: float, passing: Callable[[BaseException], bool] = is_passing) -> AsyncRetrying:
        return retrying(
            remaining=lambda: deadline - self._clock(),
            max_attempts=self._max_attempts,
            first_wait=self._first_wait_seconds,
            random=self._random,
            sleep=self._sleep,
            passing=lambda error: passing(error) and (self._waits_when_told or not _told_to_wait(error)),
        )

    def _deadline(self, timeout_seconds: float | None) -> float:
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        if not math.isfinite(seconds):
            raise LLMRequestError("the time for an answer must be finite")
        return self._clock() + seconds


def _told_to_wait(error: BaseException) -> bool:
    return isinstance(error, LLMError) and bool(error.retry_after)
