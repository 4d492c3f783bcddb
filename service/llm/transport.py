"""The connections to a model server: httpx over pools of httpcore whose sockets end with the lease of a request."""

import logging
import ssl
from collections.abc import Iterable
from typing import Any, cast

import certifi
import httpcore
import httpx

from service.llm.lease import LEASE

KEEPALIVE_SECONDS = 4.0
"""Below the 5 s after which uvicorn, and so vLLM, drops an idle connection: else a request now and then meets a
connection that the server is just closing."""

READ_BYTES = 16_384
"""How much is parsed at a time: 64 KiB, httpcore's own choice, of the smallest possible chunks or of `102 Processing`
keep the event loop for more than 100 ms."""

FRESH = "pointsman.fresh"
"""Request extension: true asks for a connection of the request's own, which is closed after it."""


class _ClosedStream(httpcore.AsyncNetworkStream):
    """What is left of a socket that was closed."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - httpcore's signature
        raise httpcore.ReadError("the connection is closed")

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - as above
        raise httpcore.WriteError("the connection is closed")

    async def aclose(self) -> None:
        return


_CLOSED = _ClosedStream()


class LeasedStream(httpcore.AsyncNetworkStream):
    """A socket whose reads and writes end with the lease of the request that does them, as httpcore's time-outs."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        lease, size = LEASE.get(), min(max_bytes, READ_BYTES)
        data = await lease.bounded(lambda: self._inner.read(size), limit=timeout, error=httpcore.ReadTimeout)
        lease.bytes_received += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        lease = LEASE.get()
        lease.bytes_sent += len(buffer)
        await lease.bounded(lambda: self._inner.write(buffer), limit=timeout, error=httpcore.WriteTimeout)

    async def aclose(self) -> None:
        """Closes the socket, and lets go of what came over it unread, up to a megabyte: httpcore's circles of
        references would else keep it until the garbage is collected."""
        inner, self._inner = self._inner, _CLOSED
        await inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            secured = await LEASE.get().bounded(
                lambda: self._inner.start_tls(ssl_context, server_hostname),
                limit=timeout,
                error=httpcore.ConnectTimeout,
            )
        except httpcore.ConnectTimeout:
            await self.aclose()  # httpcore forgets a connection whose handshake did not end
            raise
        return LeasedStream(secured)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        return self._inner.get_extra_info(info)


class LeasedBackend(httpcore.AsyncNetworkBackend):
    """Opens sockets whose every wait ends with the lease of the request."""

    def __init__(self) -> None:
        self._inner = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        lease = LEASE.get()
        lease.phase, lease.connected = "connecting", True
        stream = await lease.bounded(
            lambda: self._inner.connect_tcp(host, port, None, local_address, socket_options),
            limit=timeout,
            error=httpcore.ConnectTimeout,
        )
        lease.phase = "waiting for the answer"
        return LeasedStream(stream)


class _PooledTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport, exceptions and all, over a pool that is made here."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        # The parent's __init__ is not called: it would only make a pool of its own.
        self._pool = pool


class LeasedTransport(httpx.AsyncBaseTransport):
    """Two pools whose sockets know about leases, for plain HTTP and for TLS each.

    One pool keeps connections alive. The other one never does: a server may drop a connection right after a streamed
    reply (llama.cpp does), and a retry after a dropped connection must not meet another dropped one.
    """

    def __init__(self, *, max_connections: int, ssl_context: ssl.SSLContext | None = None) -> None:
        self._max_idle = max_connections
        self._ssl_context = ssl_context
        self._pools: dict[tuple[bool, bool], _PooledTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx's. Cookies are dropped: no model server needs one, and a jar of them would only grow."""
        pool = self._pool(tls=request.url.scheme == "https", fresh=bool(request.extensions.get(FRESH)))
        response = await pool.handle_async_request(request)
        response.headers.pop("set-cookie", None)
        return response

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    def _pool(self, *, tls: bool, fresh: bool) -> _PooledTransport:
        # Made when they are needed: a TLS context takes 20 ms, and most endpoints are plain HTTP.
        if (tls, fresh) not in self._pools:
            self._pools[tls, fresh] = _PooledTransport(
                httpcore.AsyncConnectionPool(
                    ssl_context=self._tls_context() if tls else None,
                    # Without a bound nobody waits inside the pool, where a request could not be given up, and where
                    # httpcore#1093 lies. The slots of the clients are the bound.
                    max_connections=None,
                    max_keepalive_connections=0 if fresh else self._max_idle,
                    keepalive_expiry=KEEPALIVE_SECONDS,
                    network_backend=LeasedBackend(),
                )
            )
        return self._pools[tls, fresh]

    def _tls_context(self) -> ssl.SSLContext:
        """Trusts what the machine trusts (and what SSL_CERT_FILE names), and certifi's list for images without any."""
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
            self._ssl_context.load_verify_locations(certifi.where())
        return self._ssl_context


def make_http_client(
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    max_connections: int,
    ssl_context: ssl.SSLContext | None = None,
) -> httpx.AsyncClient:
    """The client that the lifespan owns and lends to each `LLMClient`, which alone can use it; close it after them.

    At most `max_connections` are kept open while they are idle: the sum of the clients' `max_concurrency` is a good
    number. How many are open at once follows from those, so that nobody ever waits for a connection. Proxy variables
    of the environment have no effect, redirects are not followed, no cookie is kept.
    """
    # httpx logs a line a request at INFO, with the URL, which may hold a password.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return httpx.AsyncClient(
        transport=transport or LeasedTransport(max_connections=max_connections, ssl_context=ssl_context),
        trust_env=False,
        follow_redirects=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "pointsman"},
    )
