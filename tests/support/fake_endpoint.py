"""A programmable OpenAI-compatible server on a real socket, for what a real one will not do on demand.

    with FakeEndpoint() as fake:
        fake.reply("hello")                      # the next request gets this answer ...
        fake.then(status(503), hang())           # ... the one after that a 503, and then one that is never answered
        fake.choose(lambda request: answer(request.user_text.upper()))   # and all others this
        ... llm_client(http, fake.url, ...)
        assert fake.requests[0].json["model"] == "m"

The behaviours are in `tests.support.fake_behaviours`. The server runs in a
thread with an event loop of its own, so that it also serves processes that a test starts.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.support.fake_behaviours import answer, models
from tests.support.fake_exchange import Behaviour, Chooser, Exchange, RecordedRequest


class _Reader(asyncio.StreamReader):
    """Tells at once when the client has closed its side, also while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=1 << 24)
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.ended.set()


@dataclass
class _State:
    """What the test's thread and the server's both look at; each step is atomic in CPython."""

    queue: deque[Behaviour] = field(default_factory=deque[Behaviour])
    requests: list[RecordedRequest] = field(default_factory=list[RecordedRequest])
    connections: int = 0
    open_connections: int = 0
    left_early: int = 0
    mistakes: list[Exception] = field(default_factory=list[Exception])


class FakeEndpoint:
    """The server. `url` is what an endpoint setting takes: up to `/v1`."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        """With `tls` it speaks HTTPS by that context; `port` 0 takes a free one, kept over `stop` and `start`."""
        self._tls = tls
        self._port = port
        self._state = _State()
        self._otherwise: Chooser = _echo
        self._models = models("fake-model")
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        """Starts it."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops it."""
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens, or listened, on 127.0.0.1."""
        return self._port

    @property
    def base_url(self) -> str:
        """Without `/v1`."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The endpoint, up to `/v1`."""
        return f"{self.base_url}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request so far, oldest first."""
        return list(self._state.requests)

    @property
    def chats(self) -> list[RecordedRequest]:
        """Those to `/chat/completions`."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    @property
    def connections(self) -> int:
        """How many connections were made so far."""
        return self._state.connections

    @property
    def open_connections(self) -> int:
        """How many are open now."""
        return self._state.open_connections

    @property
    def left_early(self) -> int:
        """How many clients closed their connection before they had the whole answer."""
        return self._state.left_early

    def reply(self, content: str | Mapping[str, Any], **more: Any) -> None:  # noqa: ANN401 - as `answer`
        """The next request that has nothing queued for it yet gets this answer; see `answer`."""
        self.then(answer(content, **more))

    def then(self, *behaviours: Behaviour) -> None:
        """Queues one behaviour for each of the next requests to `/chat/completions`."""
        self._state.queue.extend(behaviours)

    def always(self, behaviour: Behaviour) -> None:
        """What requests get when nothing is queued."""
        self._otherwise = lambda _: behaviour

    def choose(self, chooser: Chooser) -> None:
        """What requests get when nothing is queued, as a function of the request."""
        self._otherwise = chooser

    def serve_models(self, behaviour: Behaviour) -> None:
        """What `GET /models` gets: `models("fake-model")` at first."""
        self._models = behaviour

    def clear(self) -> None:
        """Forgets what is queued and recorded, and echoes again."""
        self._state.queue.clear()
        self._state.requests.clear()
        self._otherwise = _echo

    def wait_for(self, condition: Callable[[Self], bool], *, seconds: float = 10.0) -> None:
        """Blocks until `condition(fake)` holds; AssertionError where it does not in time."""
        end = time.monotonic() + seconds
        while not condition(self):
            if time.monotonic() > end:
                raise AssertionError("the fake endpoint did not get there in time")
            time.sleep(0.005)

    def start(self) -> None:
        """Listens; on the port it had before, if it had one. Returns when connections are taken."""
        ready = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._serve(ready))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that started this one
                failures.append(error)
                ready.set()

        self._thread = threading.Thread(target=run, name="fake-endpoint", daemon=True)
        self._thread.start()
        if not ready.wait(10) or failures:
            raise RuntimeError("the fake endpoint did not start") from (failures[0] if failures else None)

    def stop(self) -> None:
        """Closes the port and every connection; requests are refused from now on."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        if self._thread.is_alive():
            raise RuntimeError("the fake endpoint did not stop")
        self._thread = None
        if self._state.mistakes:
            raise self._state.mistakes.pop()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        handlers: set[asyncio.Task[None]] = set()

        def protocol() -> asyncio.StreamReaderProtocol:
            reader = _Reader()
            return asyncio.StreamReaderProtocol(reader, lambda _, writer: connected(reader, writer))

        def connected(reader: _Reader, writer: asyncio.StreamWriter) -> None:
            def ended(task: asyncio.Task[None]) -> None:
                handlers.discard(task)
                writer.transport.abort()  # else one that was cancelled before its first step stays open

            task = asyncio.create_task(self._connection(reader, writer))
            handlers.add(task)
            task.add_done_callback(ended)

        server = await self._loop.create_server(
            protocol, "127.0.0.1", self._port, ssl=self._tls, backlog=1024, reuse_address=True
        )
        self._port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def _connection(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self._state.connections += 1
        self._state.open_connections += 1
        number, nth = self._state.connections, 0
        try:
            while (read := await _read_request(reader)) is not None:
                nth += 1
                request = RecordedRequest(**read, time=time.monotonic(), connection=number, nth=nth)
                self._state.requests.append(request)
                exchange = Exchange(request=request, writer=writer)
                if not await self._behave(exchange, reader) or not exchange.keep_alive:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self._state.left_early += 1
        except Exception as error:  # noqa: BLE001 - a mistake in a behaviour, shown to the test when it stops the server
            self._state.mistakes.append(error)
        finally:
            self._state.open_connections -= 1
            with contextlib.suppress(OSError):
                if self._stop is not None and self._stop.is_set():
                    writer.transport.abort()  # a good end of TLS waits for a client that may never read again
                writer.close()
                await writer.wait_closed()

    async def _behave(self, exchange: Exchange, reader: _Reader) -> bool:
        """Runs the behaviour until it ends, or until the client closes the connection, which gives False."""
        behaviour = asyncio.ensure_future(self._behaviour(exchange.request)(exchange))
        gone = asyncio.create_task(reader.ended.wait())
        try:
            await asyncio.wait({behaviour, gone}, return_when=asyncio.FIRST_COMPLETED)
            if behaviour.done():
                behaviour.result()
                return True
            self._state.left_early += 1
            return False
        finally:
            for task in (behaviour, gone):
                task.cancel()
            await asyncio.gather(behaviour, gone, return_exceptions=True)

    def _behaviour(self, request: RecordedRequest) -> Behaviour:
        if request.path.endswith("/models"):
            return self._models
        if request.path.endswith("/chat/completions") and self._state.queue:
            return self._state.queue.popleft()
        return self._otherwise(request)


async def _read_request(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    try:
        begun = await reader.readexactly(1)
        if not begun.isalpha():  # a TLS handshake, for instance
            raise ConnectionError("this is no HTTP")
        raw = begun + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return {"method": method, "path": path, "headers": headers, "body": body}


def _echo(request: RecordedRequest) -> Behaviour:
    return answer(request.user_text)
