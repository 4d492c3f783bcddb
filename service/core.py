"""Everything below HTTP, put together: what `create_app` serves and what the command line uses without a server."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from service.base.state_folder import scratch_folder, state_folder
from service.classifiers.breaker import Breaker
from service.classifiers.classifier import Classifier
from service.classifiers.ladder import Ladder, LadderObserver, Stage
from service.classifiers.local_model import LocalModelClassifier
from service.classifiers.program import CliClassifier
from service.contract.catalog import Catalog
from service.contract.errors import ConfigurationError
from service.contract.settings import Settings
from service.decide.exploring import Explorer
from service.decide.pipeline import Decide, Pipeline
from service.decide.shared_classifiers import SharedClassifiers
from service.executions.executions import Executions
from service.executions.local_runner import LocalRunner
from service.executions.log_folder import LogFolder
from service.knowledge.classifier_weights import ClassifierWeights
from service.knowledge.contexts import Contexts
from service.knowledge.kind_learner import KindLearner
from service.knowledge.knowledge import InUse, knowledge_of, read_knowledge
from service.knowledge.learner import Learner
from service.knowledge.local_endpoint import LocalEndpoint
from service.knowledge.outcomes import Outcomes
from service.knowledge.reload import Reloader
from service.llm.client import LLMClient
from service.llm.endpoint import Endpoint
from service.llm.limits import Limits
from service.llm.transport import make_http_client
from service.logs.writer import LogWriter
from service.observe.decisions import DecisionCounts, DecisionLines
from service.observe.gauges import StateCollector
from service.observe.metrics import Metrics
from service.observe.quota import QuotaWindows
from service.observe.status import Parts, status_document
from service.store import Store, StoreLimits

if TYPE_CHECKING:
    from service.observe.tracing import Tracing


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
    ) -> None:
        """Reads catalog and prompts; raises ConfigurationError. Nothing is connected to before `start`.

        The parameters are those of `create_app`.
        """
        environ = os.environ if environ is None else environ
        self.settings = settings
        self.ready = False
        self.leaving = False
        self.metrics = Metrics()
        self.store = _store(settings, environ)
        self.tracing = tracing or _tracing(settings)
        self.http = make_http_client(
            transport=transport,
            max_connections=settings.local_model.max_concurrency + settings.executions.max_concurrency + 16,
        )
        if self.tracing is not None:
            self.http.event_hooks = {"request": [self.tracing.inject]}
        # Told to wait, this client fails at once: the ladder waits, and its breaker keeps all others away meanwhile.
        self.llm = _llm(settings, self.http, settings.local_model.max_concurrency, waits_when_told=False)
        cli = CliClassifier.configured(settings.cli, environ)
        self.in_use = InUse(read_knowledge(settings))
        local = None if self.llm is None else LocalModelClassifier(self.llm, settings.local_model)
        self.kinds = KindLearner(self.in_use, self.store.snapshots, keep_all=settings.store.keep_instructions)
        self.contexts = Contexts(self.store.decisions)
        self.quota = QuotaWindows(self.in_use)
        self.pipeline = self._pipeline(local, cli)
        self.decide: Decide = self.pipeline.decide
        if self.tracing is not None:
            self.decide = partial(self.tracing.decide, self.pipeline.decide)
        self.learner = Learner(self.store.outcomes, self.in_use, settings.learning, self.store.snapshots)
        self.outcomes = Outcomes(
            self.store.outcomes,
            self.contexts,
            self.learner,
            counted=self.metrics.recorded,
            compared=self.metrics.compared,
            unlinked=self.metrics.unlinked,
            advised=self.metrics.advised,
        )
        self.weights = ClassifierWeights(self.store.outcomes, self.in_use)
        self.local_endpoint = LocalEndpoint(local, settings, self.in_use, self.learner.adopt)
        self.in_use.knowledge = self.local_endpoint.with_or_without_agent(self.in_use.knowledge)
        self.reloader = Reloader(
            settings,
            self.local_endpoint.adopt,
            wake=self.pipeline.classifiers.wake,
            config_file=config_file,
            reread=reread,
        )
        # A client of its own, with its own slots: a decision never waits behind an execution.
        self._running_llm = _llm(settings, self.http, settings.executions.max_concurrency)
        self.executions = self._executions(environ)
        self.parts = Parts(
            pipeline=self.pipeline,
            learner=self.learner,
            kinds=self.kinds,
            reloader=self.reloader,
            store=self.store,
            executions=self.executions,
        )
        self.metrics.registry.register(self.quota)
        self.metrics.registry.register(StateCollector(self.parts, {"local_model": self.llm, "cli": cli}, log))

    async def start(self, *, learn_first: bool = False, serve: bool = False) -> None:
        """Connects; a database that is away does not keep it from deciding.

        What was recorded is learned in the background, or with `learn_first` before this returns. Executions are
        taken only with `serve`: what a crash left open is closed by a service, not by a command.
        """
        await self.store.start()
        await self.learner.start(wait=learn_first)
        await self.local_endpoint.start(wait=not serve)
        await self.kinds.start(follow=serve)
        if self.pipeline.classifiers.ladder.stages:
            await self.weights.start(wait=learn_first)
        if serve:
            if self.executions is not None:
                await self.executions.start()
            await self.outcomes.start()
            self.store.summing.background.start()
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
        await self.local_endpoint.background.aclose()
        await self.outcomes.background.aclose()
        await self.kinds.aclose()
        await self.learner.aclose()
        await self.weights.background.aclose()
        await self.pipeline.classifiers.aclose()
        for client in (self.llm, self._running_llm):
            if client is not None:
                await client.aclose()
        await self.http.aclose()
        await self.store.aclose()
        if self.tracing is not None:
            await self.tracing.aclose()

    def status(self) -> dict[str, Any]:
        """What `GET /v1/status` answers."""
        return status_document(self.parts, ready=self.ready)

    def use_catalog(self, catalog: Catalog) -> None:
        """Decides with this catalog from now on; what was learned for the same pairs follows in a moment."""
        now = self.in_use.knowledge
        made = knowledge_of(catalog, msgspec.structs.replace(self.settings, decision=now.decision))
        self.learner.adopt(replace(made, verifier=now.verifier))

    def make_runner(self) -> LocalRunner | None:
        """Runs whole tasks on the local model; None where there is no agent `local` now."""
        return None if self.local_endpoint.no_agent else self._runner()

    def _runner(self) -> LocalRunner | None:
        if self._running_llm is None:
            return None
        executions = self.settings.executions
        return LocalRunner(
            self._running_llm,
            self.in_use.knowledge.prompts.run_system,
            timeout_seconds=executions.timeout_seconds,
            idle_seconds=executions.idle_seconds,
        )

    def _pipeline(self, local: LocalModelClassifier | None, cli: CliClassifier | None) -> Pipeline:
        """The classifiers that are configured, in the order in which they are asked, and all who watch them."""
        settings, counts = self.settings, DecisionCounts(self.metrics)
        classifiers: list[Classifier] = [one for one in (local, cli) if one is not None]
        observers: list[LadderObserver] = [counts, *([self.tracing] if self.tracing else [])]
        ladder = Ladder([Stage(one, Breaker(time.monotonic)) for one in classifiers], observers=observers)
        return Pipeline(
            self.in_use,
            SharedClassifiers(
                ladder,
                max_in_flight=settings.server.max_in_flight,
                cache_seconds=lambda: self.in_use.knowledge.decision.cache_seconds,
            ),
            observers=[
                self.store.decisions.add,
                self.contexts.remember,
                self.quota.decided,
                counts.decided,
                DecisionLines().decided,
            ],
            told=self.kinds.told,
            explorer=Explorer(settings.learning.explore_usd_per_day),
        )

    def _executions(self, environ: Mapping[str, str]) -> Executions | None:
        settings = self.settings
        runner = None if settings.local_model.only_decides else self._runner()
        if runner is None:
            return None
        named = settings.executions.log_dir
        folder = Path(named) if named else scratch_folder(environ) / "executions"
        return Executions(
            self.store.executions,
            runner,
            LogFolder(folder),
            settings.executions,
            ended=self.metrics.execution_ended,
        )


def _llm(
    settings: Settings, http: httpx.AsyncClient, max_concurrency: int, *, waits_when_told: bool = True
) -> LLMClient | None:
    local = settings.local_model
    if not local.endpoint:
        return None
    return LLMClient(
        http,
        Endpoint(local.endpoint, api_key=local.api_key),
        limits=Limits(
            timeout_seconds=local.timeout_seconds, max_concurrency=max_concurrency, waits_when_told=waits_when_told
        ),
        model=local.model,
        default_temperature=local.default_temperature,
        extra_body=local.extra_body,
    )


def _tracing(settings: Settings) -> "Tracing | None":
    if not settings.tracing.endpoint:
        return None
    try:
        from service.observe.tracing import Tracing  # an optional extra, and a third of a second's worth of imports
    except ModuleNotFoundError:
        raise ConfigurationError(
            "traces need their extra: pip install pointsman[tracing]", path="tracing.endpoint"
        ) from None
    return Tracing(settings)


def lasting_store(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """The same settings. Raises ConfigurationError where what is recorded would be gone with the process, though
    nobody asked for a store in memory: what is acknowledged must be kept.
    """
    if not settings.store.url and state_folder(environ) is None:
        raise ConfigurationError(
            "there is neither HOME nor XDG_STATE_HOME, so what is recorded would be lost at the end; expected the "
            "database's place, such as `sqlite:////var/lib/pointsman/pointsman.db`, or `sqlite://` for memory",
            path="store.url",
            source="POINTSMAN_STORE__URL",
        )
    return settings


def _store(settings: Settings, environ: Mapping[str, str]) -> Store:
    """Where nothing is said, a file in the user's state folder; where there is no home, in memory: for a decision that
    is enough.
    """
    url, folder = settings.store.url, state_folder(environ)
    if not url and folder is not None:
        with contextlib.suppress(OSError):  # the store then says what is wrong, and decisions go on
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = f"sqlite:///{folder / 'pointsman.db'}"
    kept = settings.store
    limits = StoreLimits(
        keep_days=kept.keep_days,
        keep_decisions=kept.keep_decisions,
        keep_instructions=kept.keep_instructions,
        max_bytes=kept.max_bytes,
    )
    return Store(url or "sqlite://", limits)
