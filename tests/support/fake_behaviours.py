"""What the fake endpoint can do with a request: answer well, answer badly, or not at all.

Each function returns a behaviour, an `async def behaviour(exchange)`; a test may write its own.
"""

import asyncio
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.support.fake_exchange import Behaviour, Exchange, head


def completion(
    content: object,
    *,
    model: str = "fake-model",
    finish_reason: str | None = "stop",
    usage: tuple[int, int] | None = (10, 5),
    reasoning: str | None = None,
) -> dict[str, Any]:
    """The body of a chat completion; a mapping as `content` is written as JSON text."""
    text = json.dumps(content) if isinstance(content, Mapping) else content
    message = {"role": "assistant", "content": text, **({"reasoning_content": reasoning} if reasoning else {})}
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return body


def answer(content: object, *, headers: Mapping[str, str] | None = None, **more: Any) -> Behaviour:  # noqa: ANN401 - as `completion`
    """200 with `content` as the assistant's message; see `completion` for the rest."""
    return raw(json.dumps(completion(content, **more)).encode(), headers=headers)


def verdict(agent_type: str, model: str, **more: object) -> Behaviour:
    """200 with a classifier's verdict as it should be; `more` replaces or adds fields."""
    fields = {"agent_type": agent_type, "model": model, "minutes": 30, "confidence": 0.8, "reason": "It fits the task."}
    return answer({**fields, **more})


def prose(text: str = "Certainly! I would say that the second one is the best choice here.") -> Behaviour:
    """200 with prose, whatever was asked: a server whose build ignores `response_format`."""
    return answer(text)


def raw(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
) -> Behaviour:
    """Exactly this body."""

    async def behave(exchange: Exchange) -> None:
        await exchange.respond(status, body, headers=headers, content_type=content_type)

    return behave


def status(code: int, body: str | bytes = "", *, headers: Mapping[str, str] | None = None) -> Behaviour:
    """An error as OpenAI's servers send it; a `body` of one's own replaces it."""
    told = body.encode() if isinstance(body, str) else body
    return raw(
        told or json.dumps({"error": {"message": f"fake {code}", "code": code}}).encode(), status=code, headers=headers
    )


def models(*ids: str) -> Behaviour:
    """What `GET /models` answers."""
    return raw(json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in ids]}).encode())


def slow(behaviour: Behaviour, seconds: float) -> Behaviour:
    """The same, after some time."""

    async def behave(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await behaviour(exchange)

    return behave


def hang(sent: bytes = b"") -> Behaviour:
    """Sends that much and then nothing more, for ever."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(sent)
        await asyncio.Event().wait()

    return behave


def hang_after_headers(code: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """A status and headers that promise a body, and then nothing."""
    return hang(head(code, {"Content-Type": "application/json", "Content-Length": "1000", **(headers or {})}))


def trickle(body: bytes | None = None, *, pause: float = 1.0, headers_too: bool = False) -> Behaviour:
    """A right answer, one byte each `pause` seconds; `headers_too`: its status line and headers as well."""
    body = body or json.dumps(completion("slow")).encode()
    start = head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})

    async def behave(exchange: Exchange) -> None:
        if not headers_too:
            await exchange.send(start)
        for byte in start + body if headers_too else body:
            await exchange.send(bytes([byte]))
            await asyncio.sleep(pause)

    return behave


def trickle_forever(*, pause: float = 1.0, informational: bool = False) -> Behaviour:
    """Header lines without end, or with `informational` one whole `102 Processing` after the other."""
    line = b"HTTP/1.1 102 Processing\r\n\r\n" if informational else b"X: y\r\n"

    async def behave(exchange: Exchange) -> None:
        if not informational:
            await exchange.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await exchange.send(line)
            await asyncio.sleep(pause)

    return behave


def reset(sent: bytes = b"") -> Behaviour:
    """Sends that much and then resets the connection."""

    async def behave(exchange: Exchange) -> None:
        if sent:
            await exchange.send(sent)
            await asyncio.sleep(0.02)  # a reset overtakes what is still in the buffer
        exchange.reset()

    return behave


def cut(sent: bytes) -> Behaviour:
    """Sends that much and then closes the connection in good order, in the middle."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(sent)
        exchange.keep_alive = False

    return behave


def endless(chunk: bytes = b" " * 65_536) -> Behaviour:
    """A body without a length, and without an end."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}))
        await over_and_over(chunk)(exchange)

    return behave


def over_and_over(chunk: bytes, *, pause: float = 0.0) -> Behaviour:
    """The same chunk of a body that has begun, without end: to be used as the `end` of `sse`."""

    async def behave(exchange: Exchange) -> None:
        while True:
            await exchange.send(_chunk(chunk))
            await asyncio.sleep(pause)

    return behave


def until_told(told: threading.Event, rest: bytes) -> Behaviour:
    """Nothing until `told` is set, then the `rest` of the body: to be used as the `end` of `sse`."""

    async def behave(exchange: Exchange) -> None:
        while not told.is_set():  # noqa: ASYNC110 - it is set in another thread
            await asyncio.sleep(0.01)
        await exchange.send(_chunk(rest) + b"0\r\n\r\n")

    return behave


def huge(size: int = 1 << 30, *, declared: bool = True) -> Behaviour:
    """A body of `size` bytes, announced in Content-Length or not."""

    async def behave(exchange: Exchange) -> None:
        length = {"Content-Length": str(size)} if declared else {"Connection": "close"}
        await exchange.send(head(200, {"Content-Type": "application/json", **length}))
        for _ in range(size // 65_536):
            await exchange.send(b" " * 65_536)
        exchange.keep_alive = declared

    return behave


def then_drop(behaviour: Behaviour) -> Behaviour:
    """Answers, and then closes the connection although the client may keep it: llama.cpp after a stream."""

    async def behave(exchange: Exchange) -> None:
        await behaviour(exchange)
        exchange.keep_alive = False

    return behave


def drop_when_reused(behaviour: Behaviour) -> Behaviour:
    """Resets instead of answering, where the request came on a kept-alive connection."""

    async def behave(exchange: Exchange) -> None:
        if exchange.request.nth > 1:
            exchange.reset()
        else:
            await behaviour(exchange)

    return behave


def sse(
    data: bytes, *, split: int | Sequence[int] | None = None, pause: float = 0.0, end: Behaviour | None = None
) -> Behaviour:
    """These bytes as an event stream, cut into pieces of `split` bytes (or of these lengths, in turn).

    `pause` seconds lie between the pieces; `end` goes on from there, where the stream should not end properly.
    """

    async def behave(exchange: Exchange) -> None:
        await exchange.send(head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}))
        for piece in _pieces(data, split):
            await exchange.send(_chunk(piece))
            await asyncio.sleep(pause)
        if end is not None:
            await end(exchange)
        else:
            await exchange.send(b"0\r\n\r\n")

    return behave


def events(*chunks: Mapping[str, Any] | str, newline: str = "\n", done: bool = True) -> bytes:
    """The bytes of an event stream: one event for each chunk, and `[DONE]`."""
    texts = [chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False) for chunk in chunks]
    return "".join(f"data: {text}{newline}{newline}" for text in [*texts, *(["[DONE]"] if done else [])]).encode()


def deltas(
    *contents: str,
    model: str = "fake-model",
    finish_reason: str | None = "stop",
    usage: tuple[int, int] | None = (10, 5),
    reasoning: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """The chunks of a streamed answer: the role, reasoning, content, the finish reason, and the usage by itself."""
    parts: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": None}, None)]
    parts += [({"reasoning_content": text}, None) for text in reasoning]
    parts += [({"content": text}, None) for text in contents]
    parts += [({}, finish_reason)] if finish_reason else []
    base: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model}
    chunks: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": why}]} for delta, why in parts
    ]
    if usage:
        counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        chunks.append({**base, "choices": [], "usage": counts})
    return chunks


def streamed(*contents: str, split: int | None = None, pause: float = 0.0, **more: Any) -> Behaviour:  # noqa: ANN401 - as `deltas`
    """A whole streamed answer in these pieces; see `deltas` and `sse`."""
    return sse(events(*deltas(*contents, **more)), split=split, pause=pause)


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _pieces(data: bytes, split: int | Sequence[int] | None) -> Iterable[bytes]:
    if split is None:
        # One piece an event, as real servers send them.
        return [piece + b"\n\n" for piece in data.split(b"\n\n") if piece] if b"\r" not in data else [data]
    lengths = [split] * (len(data) // split + 1) if isinstance(split, int) else [*split, len(data)]
    pieces: list[bytes] = []
    at = 0
    for length in lengths:
        pieces.append(data[at : at + max(1, length)])
        at += max(1, length)
    return [piece for piece in pieces if piece]
