"""`posting(path, handler)`: a POST with a JSON body, over plain ASGI.

The framework still routes, guards and turns exceptions into answers. Its request and response objects are left out: to
make and fill them took as long as half a decision.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar import asgi
from litestar.exceptions import ClientException, MethodNotAllowedException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from service.contract.decoding import decode_json
from service.contract.errors import InvalidInputError

T = TypeVar("T")

Headers = Sequence[tuple[bytes, bytes]]
JSON = b"application/json"
_ENCODER = msgspec.json.Encoder()


@dataclass(slots=True)
class Posted:
    """A request that is here as a whole. Of what `receive` still gives, only the end of the connection counts."""

    body: bytes
    receive: Receive
    request_id: str | None

    def take(self) -> bytes:
        """The body, given away: while a classifier is waited for it would else be held, megabytes of spaces too."""
        body, self.body = self.body, b""
        return body


@dataclass(frozen=True, slots=True)
class Answer:
    """A document, written once."""

    body: bytes
    status: int = 200
    headers: Headers = ()

    @classmethod
    def of(cls, value: object, *, status: int = 200, headers: Headers = ()) -> "Answer":
        """`value` as JSON."""
        return cls(_ENCODER.encode(value), status, headers)


Handler = Callable[[Posted], Awaitable[Answer]]


def posting(
    path: str,
    handler: Handler,
    max_body_bytes: int,
    *,
    reads: Callable[[Mapping[str, Any]], Awaitable[Answer]] | None = None,
) -> ASGIRouteHandler:
    """Makes a route of a handler: 405 for other methods, 413 for a body over the limit, 400 for a compressed one.

    `reads` answers GET and HEAD at the same path, by the ASGI scope.
    """
    allowed = "OPTIONS, POST" if reads is None else "GET, HEAD, OPTIONS, POST"

    @asgi(path, copy_scope=False)
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        facts: Any = scope
        if facts["method"] == "OPTIONS":
            await _send(send, 204, b"", [(b"allow", allowed.encode())])
            return
        if reads is not None and facts["method"] in {"GET", "HEAD"}:
            found = await reads(facts)
            await send_document(send, found.status, found.body, JSON, found.headers)
            return
        if facts["method"] != "POST":
            raise MethodNotAllowedException(headers={"allow": allowed})
        posted = Posted(await _body(facts, receive, max_body_bytes), receive, facts.get("request_id"))
        answer = await handler(posted)
        await send_document(send, answer.status, answer.body, JSON, answer.headers)

    return answer


def decode_item(raw: msgspec.Raw, decoder: msgspec.json.Decoder[T], place: str) -> T:
    """One item of a batch. Raises InvalidInputError that names its `place` in the whole, such as `$.tasks[3]`."""
    try:
        return decode_json(bytes(raw), decoder)
    except InvalidInputError as error:
        raise InvalidInputError(error.expected, path=f"{place}{error.path.removeprefix('$')}") from None


async def send_document(send: Send, status: int, body: bytes, media_type: bytes, headers: Headers = ()) -> None:
    """One answer with all of its body."""
    own = ((b"content-type", media_type), (b"content-length", b"%d" % len(body)))
    await _send(send, status, body, (*own, *headers))


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    start: Any = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    end: Any = {"type": "http.response.body", "body": body}
    await send(end)


async def _body(scope: Any, receive: Receive, most: int) -> bytes:  # noqa: ANN401 - an ASGI scope, read as a mapping
    """All of it; what is announced as too large is not waited for."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > most:  # the server has refused what is no number
            raise RequestEntityTooLarge
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            said = value[:40].decode("latin-1")
            raise InvalidInputError(f"expected a body without compression, got content-encoding {said!r}")
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise ClientException
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > most:
            raise RequestEntityTooLarge
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
