"""What one decision costs in counts, which no other load on the machine changes: calls, instructions, statements.

    python -m tests.load.counts [--short]

Counted in this process with the classifier stubbed: a whole request through the ASGI application, and the decision
alone. `tests/unit/test_hot_path.py` fails where they grow beyond its bounds.
"""

import asyncio
import io
import logging
import sys
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Self, cast

import msgspec
import structlog
from litestar import Litestar
from sqlalchemy import event

from service.contract.catalog_file import DEFAULT_CATALOG
from service.contract.task import Task
from service.core import Core
from service.decide import shared_classifiers
from service.logs.lines import configure_logging
from tests.load.servers import service_app
from tests.load.support import Report, arguments, parsed, task_body

WARM = 60
"""Requests before the counting begins: caches are filled, and what is set up late has been set up."""

_DECODER = msgspec.json.Decoder(Task)


@dataclass(slots=True)
class Counts:
    """Of one piece of work in one thread: calls of Python and C functions by name, and Python instructions.

    From Python 3.12 on fewer instructions are reported: compare within one version.
    """

    calls: Counter[str] = field(default_factory=Counter[str])
    instructions: int = 0

    @property
    def total_calls(self) -> int:
        """All of them."""
        return self.calls.total()

    def of(self, *names: str) -> int:
        """How many calls were of functions with one of these names."""
        return sum(self.calls[name] for name in names)

    def profile(self, frame: FrameType, kind: str, argument: Any) -> None:  # noqa: ANN401 - as sys.setprofile has it
        """For `sys.setprofile`."""
        if kind == "call":
            self.calls[f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"] += 1
        elif kind == "c_call":
            owner = getattr(argument, "__self__", None)
            kind_of = getattr(owner, "__name__", None) or type(owner).__name__
            self.calls[f"{kind_of}.{argument.__name__}"] += 1

    def trace(self, frame: FrameType, kind: str, _: Any) -> Any:  # noqa: ANN401 - as sys.settrace has it
        """For `sys.settrace`."""
        if kind == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif kind == "opcode":
            self.instructions += 1
        return self.trace


class Bench:
    """A started application with a stubbed classifier in an event loop of its own; its log goes to `log`."""

    def __init__(self, kind: str = "stub") -> None:
        self.log = io.TextIOWrapper(io.BytesIO())
        self.statements: list[str] = []
        self.kind = kind
        self._runner = asyncio.Runner()
        self._number = 0
        self._real_stderr = sys.stderr
        self._real_handlers = list(logging.getLogger().handlers)
        self._real_level = logging.getLogger().level

    def __enter__(self) -> Self:
        """Starts it and warms it up."""
        sys.stderr = self.log
        self._writer = configure_logging("info")
        self.app: Litestar = service_app(self.kind, store="sqlite://", catalog=str(DEFAULT_CATALOG))
        self.core: Core = self.app.state.core
        # However slow this machine is while it counts, nothing is written meanwhile, and the stub has answered at once.
        self._asked_seconds = shared_classifiers.ASKED_SECONDS
        shared_classifiers.ASKED_SECONDS = 60.0
        store = self.core.store
        store._limits = msgspec.structs.replace(store._limits, flush_seconds=60)
        self._runner.run(self.core.start())
        engine = self.core.store._database._engine.sync_engine
        event.listen(engine, "before_cursor_execute", self._note)
        for _ in range(WARM):
            self.run(self.request())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops it."""
        shared_classifiers.ASKED_SECONDS = self._asked_seconds
        self.run(self.core.aclose())
        self._runner.close()
        sys.stderr = self._real_stderr
        structlog.reset_defaults()
        logging.getLogger().handlers = self._real_handlers
        logging.getLogger().setLevel(self._real_level)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it gives
        """Runs it to its end."""
        return self._runner.run(work)

    async def request(self) -> None:
        """One new task through the whole application."""
        self._number += 1
        body, sent = task_body(self._number), list[dict[str, Any]]()
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/classify",
            "raw_path": b"/v1/classify",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "extensions": {},
            "state": {},
        }
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:  # noqa: ANN401 - an ASGI message
            message = next(given, None)
            return message if message is not None else await asyncio.Event().wait()

        async def send(message: Any) -> None:  # noqa: ANN401 - an ASGI message
            sent.append(message)

        await self.app(cast("Any", scope), receive, cast("Any", send))
        if sent[0]["status"] != 200:
            raise RuntimeError(f"the request was answered with {sent[0]['status']}")

    async def decision(self) -> None:
        """One new task decided, without HTTP around it."""
        self._number += 1
        await self.core.pipeline.decide(_DECODER.decode(task_body(self._number)))

    def count(self, work: str, *, times: int = 5) -> Counts:
        """Counts `request` or `decision`; the least of several times, since a timer may come in between."""
        found = [self._counted(work) for _ in range(times)]
        calls = min((counts.calls for counts in found), key=Counter[str].total)
        return Counts(calls, min(counts.instructions for counts in found))

    def lines(self, work: str) -> int:
        """Log lines that it writes."""
        self._writer.flush()
        before = self.log.buffer.tell()
        self.run(getattr(self, work)())
        self._writer.flush()
        return self.log.buffer.getvalue()[before:].count(b"\n")

    def statements_of(self, decisions: int, *, times: int = 3) -> int:
        """SQL statements that writing down so many decisions takes; the least of several times, as above."""
        return min(self._written(decisions) for _ in range(times))

    def _written(self, decisions: int) -> int:
        self.run(self.core.store.decisions.flush())
        self.statements.clear()  # before them: the store may write some of them meanwhile, which takes more statements
        for _ in range(decisions):
            self.run(self.decision())
        self.run(self.core.store.decisions.flush())
        return len(self.statements)

    def _counted(self, work: str) -> Counts:
        counts = Counts()
        for start, stop in ((sys.setprofile, counts.profile), (sys.settrace, counts.trace)):
            coroutine = getattr(self, work)()
            start(cast("Any", stop))
            try:
                self.run(coroutine)
            finally:
                start(None)
        return counts

    def _note(self, _c: object, _cursor: object, statement: str, *_: object) -> None:
        self.statements.append(statement)


def main() -> None:
    """The command."""
    given = parsed(arguments(__doc__ or ""))
    report = Report("counts", given)
    report.say("counts of one decision")
    for kind in ("stub", "forecast"):
        with Bench(kind) as bench:
            for work in ("request", "decision"):
                counts = bench.count(work)
                instructions = report.ratio(f"{kind}, {work}, instructions", counts.instructions)
                calls = report.ratio(f"{kind}, {work}, calls", counts.total_calls)
                report.say(f"  {kind:9} {work:9} {instructions.median:8.0f} instructions {calls.median:6.0f} calls")
            lines, statements = bench.lines("request"), bench.statements_of(100)
            report.ratio(f"{kind}, log lines a request", lines)
            report.ratio(f"{kind}, SQL statements for 100 decisions", statements)
            report.say(f"  {kind:9} {lines} log lines a request, {statements} SQL statements for 100 decisions")
    report.end()


if __name__ == "__main__":
    main()
