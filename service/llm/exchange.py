"""One request to the model server and its answer: bounded in time and size, every failure an `LLMError`."""

import asyncio
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import cast

import httpx

from service.llm.errors import (
    LLMConnectionError,
    LLMError,
    LLMReplyError,
    LLMRequestError,
    LLMStatusError,
    clean,
    too_large,
)
from service.llm.retry import parse_retry_after
from service.llm.transport import FRESH, Lease

SECRET_CHARS = 6
"""A shorter password is no secret, and masking it would only garble the text."""

ERROR_BODY_BYTES = 65_536
"""How much of an error's body is read: the message is at its start."""

ERROR_BODY_SECONDS = 1.0
"""How long an error's body is waited for: the status says enough, and the caller's time is for something else."""

_LOW_LEVEL = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RuntimeError, ExceptionGroup)
"""What httpx raises, and what the layers below it let through: uvloop's RuntimeError on a closed transport, the codec
of host names with its UnicodeError, the groups of anyio."""


class Endpoint:
    """Where the model server is, given up to `/v1`, and how one is known to it."""

    def __init__(self, url: str, *, api_key: str | None) -> None:
        """LLMRequestError where `url` is no http(s) URL, or where the key cannot stand in a header."""
        try:
            self._url = httpx.URL(url.strip())
        except (httpx.InvalidURL, ValueError):
            self._url = httpx.URL("")
        if self._url.scheme not in ("http", "https") or not self._url.host or not 0 < (self._url.port or 80) < 65_536:
            raise LLMRequestError("the endpoint is no usable http:// or https:// URL", problem="bad-endpoint")
        self.api_key = (api_key or "").strip() or None
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise LLMRequestError("the API key holds characters that no header can carry", problem="bad-api-key")
        self.headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        self.secrets = tuple(secret for secret in (self.api_key, *_passwords(self._url)) if secret)
        """What is sent to be let in, in each form in which a server may send it back."""

    def url(self, path: str) -> httpx.URL:
        """The URL of `path` below the endpoint, with or without a slash at its end; a query string is kept."""
        return self._url.copy_with(path=self._url.path.rstrip("/") + path)

    def __str__(self) -> str:
        """Without user, password and query: fit for errors and logs."""
        return clean(f"{self._url.scheme}://{self._url.netloc.decode('ascii')}{self._url.path.rstrip('/')}", limit=200)


class Exchange:
    """Sends requests to one endpoint. Each call must run in a task that holds the lease given to it."""

    def __init__(
        self, http: httpx.AsyncClient, endpoint: Endpoint, *, max_body_bytes: int, wall_clock: Callable[[], float]
    ) -> None:
        self._http = http
        self._endpoint = endpoint
        self._max_body_bytes = max_body_bytes
        self._wall_clock = wall_clock

    async def fetch(self, method: str, path: str, content: bytes | None, *, lease: Lease, fresh: bool = False) -> bytes:
        """The whole body of a 2xx answer."""
        async with self.open(method, path, content, lease=lease, fresh=fresh) as response:
            return b"".join([chunk async for chunk in self.chunks(response, lease)])

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

    async def chunks(
        self, response: httpx.Response, lease: Lease, *, max_bytes: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The body as it comes, within the limits of size (`max_bytes`, else the one of the exchange) and time.

        A compressed body is refused: none was asked for, and a small one may unpack to gigabytes.
        """
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise LLMReplyError(f"the answer is packed as {clean(encoding, limit=40)}, unasked", problem="encoded")
        limit = self._max_body_bytes if max_bytes is None else max_bytes
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
            async with aclosing(self.chunks(response, lease)) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= ERROR_BODY_BYTES:
                        break
        text = clean(body[:ERROR_BODY_BYTES].decode("utf-8", "replace"), secret=self._endpoint.secrets)
        retry_after = parse_retry_after(response.headers.get("retry-after"), now=self._wall_clock())
        said = f"{self._endpoint} answered {status}{_phrase(status)}"
        if response.is_redirect or 300 <= status < 400:
            where = self._clean(response.headers.get("location", ""))
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
            return LLMRequestError(f"{self._endpoint} cannot be asked: {self._clean(str(error))}")
        if isinstance(error, httpx.ConnectError):
            refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes)
            told = "connection refused" if refused else _last_words(causes)
            return self._unreachable(told, "connection-refused" if refused else "connection-failed")
        return LLMConnectionError(
            f"the connection to {self._endpoint} broke while {lease.phase}: {self._clean(_last_words(causes))}",
            problem="connection-broken",
        )

    def _unreachable(self, why: str, problem: str, *, passing: bool = True) -> LLMConnectionError:
        return LLMConnectionError(
            f"cannot connect to {self._endpoint}: {self._clean(why)}", problem=problem, passing=passing
        )

    def _clean(self, text: str) -> str:
        return clean(text, limit=200, secret=self._endpoint.secrets)


def _passwords(url: httpx.URL) -> tuple[str, ...]:
    """The password of a URL, and what httpx makes of it: `Authorization: Basic …` instead of the key."""
    if not url.password:
        return ()
    both = b64encode(f"{url.username}:{url.password}".encode()).decode()
    return (both, url.password) if len(url.password) >= SECRET_CHARS else (both,)


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
    """The message nearest to the root, which says most."""
    words = [str(cause) for cause in causes if str(cause)]
    return words[-1] if words else type(causes[0]).__name__
