"""One streamed answer: pieces as they come, and the whole of it at the end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

import httpx
from tenacity import AsyncRetrying

from service.contract.decision import Usage
from service.llm.errors import LLMConnectionError, LLMReplyError
from service.llm.exchange import Exchange
from service.llm.lease import Lease
from service.llm.retry import is_passing
from service.llm.slots import Slots
from service.llm.sse import EventDecoder
from service.llm.wire import (
    ChatReply,
    StreamDelta,
    decode_chunk,
    decode_reply,
    error_message,
    reasoning_of,
    text_or_none,
    usage_of,
)

logger = logging.getLogger(__name__)

_DONE = b"[DONE]"


class StreamedAnswer:
    """Puts the events of a stream together. `begun` once one of them was part of an answer."""

    def __init__(self, *, model: str, secrets: Sequence[str]) -> None:
        self._secrets = secrets
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._model = model
        self._usage: Usage | None = None
        self._malformed = 0
        self.finish_reason: str | None = None
        self.begun = False

    def take(self, data: bytes) -> StreamDelta | None:
        """What one event adds to the answer, None where that is no text. LLMReplyError where it is an error."""
        chunk = decode_chunk(data)
        if chunk is None:
            self._malformed += 1
            if self._malformed == 1:
                logger.warning("a malformed chunk of the stream was skipped: %d bytes", len(data))
            return None
        if chunk.error is not None:
            told = error_message(chunk.error, secrets=self._secrets)
            raise LLMReplyError(f"the server broke off: {told or 'it does not say why'}", problem="server-error")
        self.begun = True
        self._model = text_or_none(chunk.model) or self._model
        self._usage = usage_of(chunk.usage) or self._usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self.finish_reason = text_or_none(choice.finish_reason) or self.finish_reason
        if choice.delta is None:
            return None
        return self._add(choice.delta.content or "", reasoning_of(choice.delta))

    def take_whole(self, body: bytes) -> StreamDelta | None:
        """The answer of a server that was asked for a stream and sent one JSON document."""
        reply = decode_reply(body, model=self._model, secrets=self._secrets)
        self.begun = True
        self._model, self.finish_reason, self._usage = reply.model, reply.finish_reason or "stop", reply.usage
        return self._add(reply.content, reply.reasoning or "")

    def ended(self) -> None:
        """Says how many chunks were skipped, where it was more than the first one."""
        if self._malformed > 1:
            logger.warning("%d chunks of the stream were malformed", self._malformed)

    def reply(self) -> ChatReply:
        return ChatReply(
            content="".join(self._content),
            model=self._model,
            finish_reason=self.finish_reason,
            usage=self._usage,
            reasoning="".join(self._reasoning) or None,
        )

    def _add(self, content: str, reasoning: str) -> StreamDelta | None:
        if not content and not reasoning:
            return None
        self._content.append(content)
        self._reasoning.append(reasoning)
        return StreamDelta(content=content, reasoning=reasoning)


class ChatStream(AsyncIterator[StreamDelta], AbstractAsyncContextManager["ChatStream"]):
    """Iterate over it for the pieces; use it as `async with`, which ends it on the server too when you leave early.

    An error of the stream is raised by the iteration after the pieces that came before it. `reply` holds what came so
    far, and the whole answer once the iteration has ended. To cancel the wait for a piece does not harm the stream.
    """

    def __init__(
        self,
        slots: Slots,
        exchange: Exchange,
        answer: StreamedAnswer,
        *,
        body: bytes,
        lease: Callable[[], Lease],
        retrying: Callable[[Callable[[BaseException], bool]], AsyncRetrying],
        idle_seconds: float,
    ) -> None:
        """Made by `LLMClient.chat_stream`; nothing is sent before the first piece is asked for."""
        self._slots = slots
        self._exchange = exchange
        self._answer = answer
        self._body = body
        self._lease = lease
        self._retrying = retrying
        self._idle_seconds = idle_seconds
        self._deltas: asyncio.Queue[StreamDelta | None] = asyncio.Queue()
        self._run: asyncio.Task[None] | None = None

    @property
    def reply(self) -> ChatReply:
        """Content, reasoning, model, finish reason and usage as far as they came."""
        return self._answer.reply()

    async def __anext__(self) -> StreamDelta:
        """The next piece; an `LLMError` where the stream failed."""
        if self._run is None:
            self._run = asyncio.create_task(self._tries())
            self._run.add_done_callback(self._ended)
        delta = await self._deltas.get()
        if delta is not None:
            return delta
        self._deltas.put_nowait(None)  # for whoever asks again
        if not self._run.cancelled():
            self._run.result()
        raise StopAsyncIteration

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the stream where it has not ended: its connection is closed, so that the server stops too."""
        if self._run is not None and not self._run.done():
            # This task only waits and may be cancelled; the request itself runs in one that ends by its lease.
            self._run.cancel()
            await asyncio.wait({self._run})

    def _ended(self, run: asyncio.Task[None]) -> None:
        if not run.cancelled():
            run.exception()  # looked at, because nobody may be left to ask for it
        self._deltas.put_nowait(None)

    async def _tries(self) -> None:
        # Pieces that were handed out cannot be taken back: after the first one nothing is tried again.
        await self._retrying(lambda error: not self._answer.begun and is_passing(error))(self._try_once)

    async def _try_once(self) -> None:
        lease = self._lease()
        await self._slots.run(lambda: self._pump(lease), lease)

    async def _pump(self, lease: Lease) -> None:
        """Reads one response to its end. Runs in a task of its own, under its lease."""
        path = "/chat/completions"
        async with self._exchange.open("POST", path, self._body, lease=lease, fresh=True) as response:
            if "text/event-stream" not in response.headers.get("content-type", "").lower():
                self._hand_out(self._answer.take_whole(await self._exchange.body(response, lease)))
                return
            await self._read_events(response, lease)
        self._answer.ended()

    async def _read_events(self, response: httpx.Response, lease: Lease) -> None:
        decoder = EventDecoder()
        async with aclosing(self._exchange.stream(response, lease)) as chunks:
            async for chunk in chunks:
                if self._ends_with(decoder.feed(chunk), lease):
                    return
        if not self._ends_with(decoder.flush(), lease) and self._answer.finish_reason is None:
            raise LLMConnectionError("the stream ended before the answer did", problem="stream-cut")

    def _ends_with(self, events: list[bytes], lease: Lease) -> bool:
        for data in events:
            if data.strip() == _DONE:
                if not self._answer.begun:
                    raise LLMReplyError("the stream held no answer", problem="no-choices")
                return True
            if self._hand_out(self._answer.take(data)):
                lease.read_within(self._idle_seconds)
        return False

    def _hand_out(self, delta: StreamDelta | None) -> bool:
        if delta is not None:
            self._deltas.put_nowait(delta)
        return delta is not None
