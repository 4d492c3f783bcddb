"""Everything below HTTP, put together: what `create_app` serves and what the command line uses without a server."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from service.classifiers.breaker import Breaker
from service.classifiers.classifier import Classifier
from service.classifiers.ladder import Ladder, Stage
from service.classifiers.local_model import LocalModelClassifier
from service.classifiers.program import CliClassifier
from service.classifiers.prompt import PROMPT_FILES, Prompts, prompt_folder
from service.contract.catalog import DEFAULT_CATALOG, Catalog, load_catalog
from service.contract.decision import Decision
from service.contract.errors import ConfigurationError
from service.contract.settings import Settings
from service.contract.task import Task
from service.decide.pipeline import Knowledge, Left, Pipeline
from service.executions.executions import Executions
from service.executions.local_runner import LocalRunner
from service.executions.log_folder import LogFolder
from service.forecast.forecaster import Forecaster
from service.knowledge.calibration import Calibration
from service.knowledge.learner import Learner
from service.knowledge.reload import Reloader
from service.llm.client import LLMClient
from service.llm.endpoint import Endpoint
from service.llm.limits import Limits
from service.llm.transport import make_http_client
from service.logs.writer import LogWriter
from service.observe.gauges import StateCollector, Worker
from service.observe.telemetry import DecisionTelemetry, Metrics
from service.store import Store

if TYPE_CHECKING:
    from service.observe.tracing import Tracing

TRACING = "tracing.endpoint"


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """Where this user's programs keep what lasts (XDG base directories), or None where there is no home."""
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if state:
        return Path(state, "pointsman")
    return Path(home, ".local", "state", "pointsman") if home else None


def read_knowledge(settings: Settings) -> Knowledge:
    """Catalog and prompts from their files. Raises ConfigurationError that names the place."""
    catalog = load_catalog(Path(settings.catalog.path) if settings.catalog.path else DEFAULT_CATALOG)
    catalog = catalog.with_local_agent(settings.local_model.model if settings.local_model.endpoint else None)
    return Knowledge(
        catalog=catalog,
        prompts=_prompts(settings, catalog),
        forecaster=Forecaster(catalog),
        decision=settings.decision,
    )


class Core:
    """Started by `start`, ended by `aclose`; `ready` in between. It belongs to one event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        config_file: Path | None = None,
        reread: Callable[[], Settings] | None = None,
        tracing: "Tracing | None" = None,
        log: LogWriter | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Reads catalog and prompts; raises ConfigurationError. Nothing is connected to before `start`.

        `config_file` is watched while it serves, and `reread` gives the settings anew when it changes. `tracing` takes
        the place of the one that the settings ask for. Of `log` the metrics tell what was dropped.
        """
        self.settings = settings
        self.clock = clock
        self.ready = False
        self.leaving = False
        self._environ = os.environ if environ is None else environ
        self.metrics = Metrics()
        self.http = make_http_client(
            transport=transport,
            max_connections=settings.local_model.max_concurrency + settings.executions.max_concurrency + 16,
        )
        # Told to wait, the client fails at once: the ladder waits, and its breaker keeps all others away meanwhile.
        self.llm = self._make_llm(settings.local_model.max_concurrency, waits_when_told=False)
        self.store = _make_store(settings, self._environ, now)
        self.tracing = tracing or _make_tracing(settings)
        if self.tracing is not None:
            self.http.event_hooks = {"request": [self.tracing.inject]}
        telemetry = DecisionTelemetry(self.metrics, self.store.log_decision)
        classifiers = self._classifiers()
        self.pipeline = Pipeline(
            read_knowledge(settings),
            Ladder(
                [Stage(classifier, Breaker(clock)) for classifier in classifiers],
                observers=[telemetry, *([self.tracing] if self.tracing else [])],
                clock=clock,
            ),
            max_in_flight=settings.server.max_in_flight,
            observer=telemetry,
            clock=clock,
            now=now,
        )
        self.learner = Learner(self.store, self.pipeline)
        self.calibration = Calibration(self.store, self.metrics.compared)
        # A client of its own, with its own slots: a decision never waits behind an execution.
        self._running_llm = self._make_llm(settings.executions.max_concurrency)
        self.executions = self._make_executions(now)
        self.reloader = Reloader(
            settings,
            read_settings=reread or (lambda: settings),
            read_knowledge=self._read_knowledge,
            files=lambda current: _files(current, config_file),
            adopt=self.learner.adopt,
            now=now,
        )
        workers: dict[str, Worker] = {c.source: c for c in classifiers if isinstance(c, CliClassifier)}
        self.metrics.registry.register(
            StateCollector(
                pipeline=self.pipeline,
                store=self.store,
                reloader=self.reloader,
                learner=self.learner,
                executions=self.executions,
                workers=workers if self.llm is None else {"local_model": self.llm, **workers},
                max_in_flight=settings.server.max_in_flight,
                log=log,
            )
        )

    async def decide(self, task: Task, *, arrived: float | None = None, left: Left | None = None) -> Decision:
        """`Pipeline.decide`, in a span where traces are on."""
        if self.tracing is None:
            return await self.pipeline.decide(task, arrived=arrived, left=left)
        return await self.tracing.decide(self.pipeline.decide, task, arrived=arrived, left=left)

    async def start(self, *, learn_first: bool = False, serve: bool = False) -> None:
        """Connects; a database that is away does not keep it from deciding.

        What was recorded is learned in the background, or with `learn_first` before this returns. Executions are
        taken only with `serve`: what a crash left open is closed by a service, not by a command.
        """
        await self.store.start()
        await self.learner.start(wait=learn_first)
        if serve and self.executions is not None:
            await self.executions.start()
        if serve:
            self.calibration.start()
            self.reloader.start()
        self.ready = True

    def leave(self) -> None:
        """Says that it will be closed soon: not ready any more, though it still answers."""
        self.ready, self.leaving = False, True

    async def aclose(self) -> None:
        """Ends all that is under way and writes what is still to be written."""
        self.ready = False
        await self.reloader.aclose()
        if self.executions is not None:
            await self.executions.aclose()
        await self.calibration.aclose()
        await self.learner.aclose()
        await self.pipeline.aclose()
        for client in (self.llm, self._running_llm):
            if client is not None:
                await client.aclose()
        await self.http.aclose()
        await self.store.aclose()
        if self.tracing is not None:
            await self.tracing.aclose()

    def use_catalog(self, catalog: Catalog) -> None:
        """Decides with this catalog from now on; what was learned for the same pairs follows in a moment."""
        prompts = _prompts(self.settings, catalog)
        self.learner.adopt(
            Knowledge(
                catalog=catalog,
                prompts=prompts,
                forecaster=Forecaster(catalog),
                decision=self.pipeline.knowledge.decision,
            )
        )

    def status(self) -> dict[str, Any]:
        """What `GET /v1/status` answers."""
        return {
            "ready": self.ready,
            "answering_with": self.pipeline.answering_with(),
            "classifiers": [
                {
                    "source": stage.classifier.source,
                    "name": stage.classifier.name,
                    "healthy": stage.breaker.state == "closed",
                    "breaker": {
                        "state": stage.breaker.state,
                        "rests_for_seconds": round(stage.breaker.rests_for(), 3),
                        "why": stage.breaker.why or None,
                    },
                }
                for stage in self.pipeline.ladder.stages
            ],
            "queue_depth": self.pipeline.waiting,
            "max_in_flight": self.settings.server.max_in_flight,
            "executions": None
            if self.executions is None
            else {"running": self.executions.running, "queued": self.executions.queued},
            "store": self.store.status,
            "learning": self.learner.report(),
            "reload": self.reloader.status,
            "versions": self.pipeline.knowledge.versions,
        }

    def _read_knowledge(self, settings: Settings) -> Knowledge:
        """As the files say now, for the endpoint that is really in use."""
        return read_knowledge(msgspec.structs.replace(settings, local_model=self.settings.local_model))

    def make_runner(self) -> LocalRunner | None:
        """Runs whole tasks on the local model; None where no endpoint is set."""
        if self._running_llm is None:
            return None
        executions = self.settings.executions
        return LocalRunner(
            self._running_llm,
            self.pipeline.knowledge.prompts.run_system,
            timeout_seconds=executions.timeout_seconds,
            idle_seconds=executions.idle_seconds,
            clock=self.clock,
        )

    def _make_executions(self, now: Callable[[], datetime]) -> Executions | None:
        runner = self.make_runner()
        if runner is None:
            return None
        folder = self.settings.executions.log_dir or str(_state(self._environ) / "executions")
        return Executions(
            self.store,
            runner,
            LogFolder(Path(folder)),
            self.settings.executions,
            default_model=self.settings.local_model.model,
            now=now,
            ended=self.metrics.execution_ended,
        )

    def _make_llm(self, max_concurrency: int, *, waits_when_told: bool = True) -> LLMClient | None:
        local = self.settings.local_model
        if not local.endpoint:
            return None
        return LLMClient(
            self.http,
            Endpoint(local.endpoint, api_key=local.api_key),
            limits=Limits(
                timeout_seconds=local.timeout_seconds, max_concurrency=max_concurrency, waits_when_told=waits_when_told
            ),
            model=local.model,
            default_temperature=local.default_temperature,
            extra_body=local.extra_body,
        )

    def _classifiers(self) -> list[Classifier]:
        """Those that are configured, in the order in which they are asked."""
        found: list[Classifier] = []
        if self.llm is not None:
            found.append(LocalModelClassifier(self.llm, self.settings.local_model, clock=self.clock))
        cli = CliClassifier.configured(self.settings.cli, self._environ)
        if cli is not None:
            found.append(cli)
        return found


def _make_tracing(settings: Settings) -> "Tracing | None":
    if not settings.tracing.endpoint:
        return None
    try:
        from service.observe.tracing import Tracing  # an optional extra, and a third of a second's worth of imports
    except ModuleNotFoundError:
        raise ConfigurationError("traces need their extra: pip install pointsman[tracing]", path=TRACING) from None
    return Tracing(settings)


def _files(settings: Settings, config_file: Path | None) -> list[Path]:
    """What the answers depend on: settings, catalog and prompts."""
    catalog = Path(settings.catalog.path) if settings.catalog.path else DEFAULT_CATALOG
    folder = prompt_folder(settings.prompts.path)
    return [*([config_file] if config_file else []), catalog, *(folder / name for name in PROMPT_FILES)]


def _prompts(settings: Settings, catalog: Catalog) -> Prompts:
    folder = Path(settings.prompts.path) if settings.prompts.path else None
    return Prompts(folder, catalog, with_reason=settings.local_model.reason)


def _state(environ: Mapping[str, str]) -> Path:
    return state_directory(environ) or Path(tempfile.gettempdir(), "pointsman")


def _make_store(settings: Settings, environ: Mapping[str, str], now: Callable[[], datetime]) -> Store:
    """Where nothing is said, a file in the user's state directory; where there is no home, in memory."""
    url, folder = settings.store.url, state_directory(environ)
    if not url and folder is not None:
        with contextlib.suppress(OSError):  # the store then says what is wrong, and decisions go on
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = f"sqlite:///{folder / 'pointsman.db'}"
    return Store(
        url or "sqlite://",
        clock=now,
        keep_days=settings.store.keep_days,
        keep_decisions=settings.store.keep_decisions,
    )
