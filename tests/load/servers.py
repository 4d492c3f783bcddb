"""The servers that benchmarks compare, each a process on one core, under uvicorn just as `pointsman serve` runs it.

    python -m tests.load.servers bare        # prints its address, runs until it is killed

`bare`: a Litestar endpoint that reads the same task with msgspec and answers one fixed decision: what the framework and
the server cost by themselves. `stub`: the service with a classifier that answers at once with the first candidate.
`forecast`: the service with no classifier.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import uvicorn
from litestar import Litestar, post

from service.api.protocol import BoundedProtocol
from service.api.server import settle_garbage
from service.app import create_app
from service.classifiers.breaker import Breaker
from service.classifiers.classifier import Brief, Classified
from service.classifiers.ladder import Ladder, Stage
from service.classifiers.verdict import Verdict
from service.contract.catalog_file import DEFAULT_CATALOG
from service.contract.decision import Decision, Excluded, Source, Step, Usage, Versions
from service.contract.decoding import convert_tree
from service.contract.settings import Settings
from service.contract.task import Task
from service.logs.lines import configure_logging
from tests.load.support import cpu_seconds, pin, resident_mb

ROOT = Path(__file__).parents[2]
KINDS = ("bare", "stub", "forecast")

ANSWER = Decision(
    decision_id="01a20573-c1d5-7f68-849b-b948972a79f2",
    agent_type="claude",
    model="claude-haiku-4-5",
    reason="A contained fix in one module, so the cheapest one that is likely to manage it.",
    source="local_model",
    degraded=False,
    failures=[],
    confidence=0.8,
    p_solve=0.6123456789,
    cost_usd=0.123456789,
    plan=[
        Step(agent_type="claude", model=f"claude-haiku-4-{i}", p_solve=0.3123456789, cost_usd=0.123456789)
        for i in range(4)
    ],
    plan_p_solve=0.8123456789,
    plan_cost_usd=0.423456789,
    worthwhile=True,
    excluded=list[Excluded](),
    usage=Usage(tokens_in=412, tokens_out=61),
    timings_ms={"total": 1.234, "eligibility": 0.012, "local_model": 0.123, "forecast": 0.345},
    versions=Versions(catalog="0123456789ab", prompt="0123456789ab", service="0.1.0"),
)
"""As long as the service's own answer, within some bytes."""


class StubClassifier:
    """Answers at once, with the first eligible candidate."""

    source: Source = "local_model"
    name = "stub"
    local = True
    timeout_seconds = 10.0
    least_seconds = 0.0
    patience_seconds = 0.0

    def available(self) -> bool:
        """Always."""
        return True

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """The first eligible candidate."""
        del timeout_seconds
        verdict = Verdict(candidate=brief.eligible[0], minutes=30.0, confidence=0.8, reason="It fits.")
        return Classified(verdict=verdict, usage=Usage(tokens_in=400, tokens_out=60), prompt="", reply="")

    async def aclose(self) -> None:
        """Nothing to close."""


class Batch(msgspec.Struct):
    """Several tasks."""

    tasks: list[Task]


def bare_app() -> Litestar:
    """The same bodies, and nothing done with them."""

    @post("/v1/classify", status_code=200)
    async def classify(data: Task) -> Decision:
        del data
        return ANSWER

    @post("/v1/classify/batch", status_code=200)
    async def batch(data: Batch) -> dict[str, list[Decision]]:
        return {"results": [ANSWER] * len(data.tasks)}

    return Litestar(
        [classify, batch],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=Settings().server.max_body_bytes,
    )


def service_app(kind: str, *, store: str, catalog: str) -> Litestar:
    """The service, with the stub in the place of its classifiers where `kind` says so."""
    tree: dict[str, Any] = {"store": {"url": store}, "cli": {"preset": ""}, "catalog": {"path": catalog}}
    app = create_app(convert_tree(tree, Settings), environ={})
    if kind == "stub":
        app.state.core.pipeline.classifiers.ladder = Ladder([Stage(StubClassifier(), Breaker(time.monotonic))])
    return app


class Server:
    """A server process, ready when entered and killed when left; its log goes to `folder`."""

    def __init__(self, kind: str, folder: Path, *, store: str = "", catalog: str = "") -> None:
        self.kind = kind
        self._arguments = [kind, f"--store={store or f'sqlite:///{folder}/{kind}.db'}"]
        self._arguments += [f"--catalog={catalog}"] if catalog else []
        self._log = folder / f"{kind}.log"
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        """Starts it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.load.servers", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the {self.kind} server did not start: {self._log.read_text()[-2000:]}")
        # The socket listens already: a request waits until the application has started.
        httpx.get(f"{self.url}/readyz", timeout=60.0, trust_env=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kills it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """What it has spent so far."""
        return cpu_seconds(self.pid)

    @property
    def resident_mb(self) -> float:
        """What it holds now."""
        return resident_mb(self.pid)


def _main() -> None:
    parser = argparse.ArgumentParser(description="A server to be measured.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--store", default="sqlite://")
    parser.add_argument("--catalog", default=str(DEFAULT_CATALOG))
    given = parser.parse_args()
    pin(0)
    configure_logging("info" if given.kind != "bare" else "error")
    app = bare_app() if given.kind == "bare" else service_app(given.kind, store=given.store, catalog=given.catalog)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=65,
    )
    _Uvicorn(config).run(sockets=[listener])


class _Uvicorn(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As `pointsman serve` does."""
        await super().startup(sockets)
        settle_garbage()


if __name__ == "__main__":
    _main()
