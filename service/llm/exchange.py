"""One request to the model server and its answer: bounded in time and size, every failure an `LLMError`."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import cast

import httpx

from service.base.secrets import masked_line
from service.llm.endpoint import Endpoint
from service.llm.errors import (
    BODY_CHARS,
    LLMConnectionError,
    LLMError,
    LLMReplyError,
    LLMRequestError,
    LLMStatusError,
    too_large,
)
from service.llm.lease import Lease
from service.llm.limits import Limits, Timing
from service.llm.retry import parse_retry_after
from service.llm.transport import FRESH

ERROR_BODY_BYTES = 65_536
"""How much of an error's body is read: the message is at its start."""

ERROR_BODY_SECONDS = 1.0
"""How long an error's body is waited for: the status says enough, and the caller's time is for something else."""

_LOW_LEVEL = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RuntimeError, ExceptionGroup)
"""What httpx raises, and what the layers below it let through: uvloop's RuntimeError on a closed transport, the codec
of host names with its UnicodeError, the groups of anyio."""


class Exchange:
    """Sends requests to one endpoint. Each call must run in a task that holds the lease given to it."""

    def __init__(self, http: httpx.AsyncClient, endpoint: Endpoint, limits: Limits, timing: Timing) -> None:
        self._http = http
        self._endpoint = endpoint
        self._limits = limits
        self._timing = timing

    async def fetch(self, method: str, path: str, content: bytes | None, *, lease: Lease, fresh: bool = False) -> bytes:
        """The whole body of a 2xx answer."""
        async with self.open(method, path, content, lease=lease, fresh=fresh) as response:
            return await self.body(response, lease)

    @asynccontextmanager
    async def open(
        self, method: str, path: str, content: bytes | None, *, lease: Lease, fresh: bool = False
    ) -> AsyncGenerator[httpx.Response, None]:
        """A 2xx answer whose body has not been read yet; `fresh` asks for a connection of its own."""
        headers = {**self._endpoint.headers, "Content-Type": "application/json"} if content else self._endpoint.headers
        try:
            request = self._http.build_request(
                method,
                self._endpoint.url(path),
                content=content,
                headers=headers,
                timeout=httpx.Timeout(lease.remaining()),
                extensions={FRESH: fresh},
            )
            response = await self._http.send(request, stream=True)
        except _LOW_LEVEL as error:
            raise self._failure(error, lease) from error
        try:
            if not response.is_success:
                raise await self._refusal(response, lease)
            lease.phase = "reading the answer"
            yield response
        finally:
            with suppress(*_LOW_LEVEL):
                await response.aclose()

    async def body(self, response: httpx.Response, lease: Lease) -> bytes:
        """The whole body, at most `max_body_bytes` of it."""
        return b"".join([chunk async for chunk in self._chunks(response, lease, self._limits.max_body_bytes)])

    def stream(self, response: httpx.Response, lease: Lease) -> AsyncGenerator[bytes, None]:
        """The body as it comes, at most `max_stream_bytes` of it."""
        return self._chunks(response, lease, self._limits.max_stream_bytes)

    async def _chunks(self, response: httpx.Response, lease: Lease, limit: int) -> AsyncGenerator[bytes, None]:
        """A compressed body is refused: none was asked for, and a small one may unpack to gigabytes."""
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise LLMReplyError(f"the answer is packed as {masked_line(encoding, 40)}, unasked", problem="encoded")
        size = count = 0
        try:
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                count += 1
                if count % 64 == 0:
                    # Thousands of tiny chunks may come in one read, and nothing else would run in between.
                    await asyncio.sleep(0)
                if size > limit:
                    raise too_large(limit)
                if lease.over:
                    raise lease.timed_out()
                yield chunk
        except _LOW_LEVEL as error:
            raise self._failure(error, lease) from error

    async def _refusal(self, response: httpx.Response, lease: Lease) -> LLMStatusError:
        """The error for a status other than 2xx, with as much of its body as comes soon."""
        status = response.status_code
        lease.read_within(min(ERROR_BODY_SECONDS, lease.remaining() / 2))
        body = bytearray()
        with suppress(LLMError):
            async with aclosing(self._chunks(response, lease, self._limits.max_body_bytes)) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= ERROR_BODY_BYTES:
                        break
        text = self._shown(body[:ERROR_BODY_BYTES].decode("utf-8", "replace"), BODY_CHARS)
        retry_after = parse_retry_after(response.headers.get("retry-after"), now=self._timing.wall_clock())
        said = f"{self._endpoint} answered {status}{_phrase(status)}"
        if 300 <= status < 400:
            where = self._shown(response.headers.get("location", ""))
            said += f", a redirect to {where or 'nowhere'}, which is not followed"
        if retry_after is not None:
            said += f", retry after {retry_after:g} s"
        return LLMStatusError(f"{said}: {text}" if text else said, status=status, body=text, retry_after=retry_after)

    def _failure(self, error: Exception, lease: Lease) -> LLMError:
        """What an exception of httpx, or of a layer below it, means to a caller."""
        if isinstance(error, httpx.TimeoutException) or lease.over:
            return lease.timed_out()
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLError):
                why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else cause.reason
                return self._unreachable(f"TLS failed: {why or cause}", "tls-failed", passing=False)
            if isinstance(cause, socket.gaierror):
                return self._unreachable(f"its name cannot be resolved: {cause.strerror}", "dns-failed")
            if isinstance(cause, UnicodeError):
                return self._unreachable("its name is no host name", "dns-failed", passing=False)
        if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol | httpx.InvalidURL):
            return LLMRequestError(f"{self._endpoint} cannot be asked: {self._shown(str(error))}")
        if isinstance(error, httpx.ConnectError):
            if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
                return self._unreachable("connection refused", "connection-refused")
            return self._unreachable(_last_words(causes), "connection-failed")
        return LLMConnectionError(
            f"the connection to {self._endpoint} broke while {lease.phase}: {self._shown(_last_words(causes))}",
            problem="connection-broken",
        )

    def _unreachable(self, why: str, problem: str, *, passing: bool = True) -> LLMConnectionError:
        return LLMConnectionError(
            f"cannot connect to {self._endpoint}: {self._shown(why)}", problem=problem, passing=passing
        )

    def _shown(self, text: str, limit: int = 200) -> str:
        return masked_line(text, limit, self._endpoint.secrets)


def _phrase(status: int) -> str:
    """The standard's own words: a server may put anything into its status line."""
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it came from, and the members of groups among them."""
    found: BaseException | None = error
    for _ in range(20):
        if found is None:
            return
        yield found
        if isinstance(found, BaseExceptionGroup):
            yield from cast("BaseExceptionGroup[BaseException]", found).exceptions
        found = found.__cause__ or found.__context__


def _last_words(causes: list[BaseException]) -> str:
    words = [str(cause) for cause in causes if str(cause)]
    return words[-1] if words else type(causes[0]).__name__
