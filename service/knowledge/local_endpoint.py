"""What the local model's endpoint turns out to be: how it is best asked, and whether it can work on tasks at all."""

from collections.abc import Callable
from functools import partial

import msgspec
import structlog

from service.base.background import Background
from service.classifiers.classifier import Brief
from service.classifiers.local_model import LocalModelClassifier
from service.classifiers.protocols.trial import FASTER_THAN_CHAT, Trial, only_decides, says_it_only_decides, try_out
from service.contract.errors import ConfigurationError
from service.contract.settings import Settings
from service.contract.task import Task
from service.knowledge.knowledge import InUse, Knowledge, knowledge_of
from service.logs.lines import log_defect

RETRY_SECONDS = 30.0
"""A server that is not there yet is looked for again after so long."""

MAX_BUSY_LOOKS = 20
"""A server may load its model for ten minutes; one that is busy for longer is not kept busy by looks at it."""

LIST_SECONDS = 2.0
"""For a server's list of models, which it has at hand."""

NO_ENDPOINT = "no endpoint is set (local_model.endpoint), so there is no agent `local` to run it"
ONLY_DECIDES = (
    "the endpoint has a decision model, which answers questions and writes no text, so there is no agent `local`"
)
NOT_KNOWN = (
    "the endpoint has not told yet whether its model writes text (local_model.protocol is auto), "
    "so there is no agent `local` so far"
)

_TEXT = "The login page shows an error after the session has ended, and the test that covers it fails now and then."


class LocalEndpoint:
    """Follows it beside the requests: at the start and after each reload. Belongs to one event loop."""

    def __init__(
        self,
        classifier: LocalModelClassifier | None,
        settings: Settings,
        in_use: InUse,
        adopt: Callable[[Knowledge], None],
    ) -> None:
        """`adopt` takes knowledge into use; it is called where agent `local` comes or goes. With `auto` it comes
        once its model has been seen to write text."""
        self.no_agent = NO_ENDPOINT if classifier is None else ""
        """Why there is no agent `local`; empty where there is one."""
        if classifier is not None and not settings.local_model.writes_text:
            self.no_agent = ONLY_DECIDES if settings.local_model.only_decides else NOT_KNOWN
        self._classifier = classifier
        self._settings = settings
        self._in_use = in_use
        self._adopt_knowledge = adopt
        self._seen = False
        self._busy_looks = 0
        self._log = structlog.get_logger("pointsman.local_model")
        self.background = Background(self._follow, every_seconds=RETRY_SECONDS, defect=partial(log_defect, self._log))

    async def start(self, *, wait: bool, to_run: bool = False) -> None:
        """Finds out in the background; with `wait` before this returns, and only as far as the first way that works.

        A protocol that is set is not tried out, but its server may have a model that writes no text: that is looked
        for in the background, and with `wait` only `to_run` a task there.
        """
        if self._classifier is None or self._settings.local_model.only_decides:
            return
        if not wait:
            self.background.start()
            self.background.wake()
        elif self._classifier.configured == "auto":
            await self.look(until_one_works=True)
        elif to_run:
            await self._look_at_the_list(self._classifier)

    def adopt(self, knowledge: Knowledge) -> None:
        """Takes what was read anew into use, and finds out once more how the server is asked."""
        self._adopt_knowledge(self.with_or_without_agent(knowledge))
        if self._classifier is None:
            return
        if self._classifier.configured != "auto":
            self._classifier.speak(self._classifier.configured)
        self._seen = False
        self._busy_looks = 0
        self.background.wake()

    async def look(self, *, until_one_works: bool = False) -> list[Trial]:
        """Tries what is faster than chat, and takes the fastest that works; chat where none does. A model that only
        decides is asked by a protocol of decision models, however fast it would be read as if it wrote text."""
        classifier = self._classifier
        if classifier is None:
            return []
        seconds = self._settings.local_model.timeout_seconds
        ways = [classifier.ways[name] for name in FASTER_THAN_CHAT]
        brief = trial_brief(self._in_use.knowledge)
        # To measure them all takes a while, and a decision model may refuse to chat meanwhile.
        trials = await try_out(
            ways, brief, timeout_seconds=seconds, until_one_works=until_one_works, first=classifier.speak
        )
        works = [trial for trial in trials if trial.seconds is not None]
        deciding = [trial for trial in works if trial.protocol != "labels"]
        only = await only_decides(classifier.client, timeout_seconds=seconds) if deciding else False
        best = min(deciding if only else works, key=lambda one: one.seconds or 0, default=None)
        unknown = any(trial.unreached for trial in trials)
        if only is None or any(trial.busy for trial in trials):
            self._busy_looks += 1
            unknown = unknown or self._busy_looks < MAX_BUSY_LOOKS
        self._seen = (best is not None and only is not None) or not unknown
        classifier.speak(best.protocol if best else "chat")
        if self._seen and only is not None:
            self._offer(ONLY_DECIDES if only else "")
        self._log.info(
            "how the model server is asked", protocol=classifier.protocol, agent_local=not self.no_agent,
            **{one.protocol: f"{one.seconds:.3f} s" if one.seconds is not None else "no" for one in trials},
        )  # fmt: skip
        return trials

    async def _look_at_the_list(self, classifier: LocalModelClassifier) -> None:
        """Whether there is an agent `local`, by what the server's list says of its model."""
        only = await says_it_only_decides(classifier.client, timeout_seconds=LIST_SECONDS)
        if only is None:
            return  # it is asked again
        self._seen = True
        self._offer(ONLY_DECIDES if only else "")

    def _offer(self, no_agent: str) -> None:
        if no_agent != self.no_agent:
            self.no_agent = no_agent
            self._adopt_knowledge(self.with_or_without_agent(self._in_use.knowledge))

    async def _follow(self) -> None:
        if self._seen or self._classifier is None:
            return
        if self._classifier.configured == "auto":
            await self.look()
        else:
            await self._look_at_the_list(self._classifier)

    def with_or_without_agent(self, knowledge: Knowledge) -> Knowledge:
        """The same with agent `local` where there is one by what is known now."""
        there = any(candidate.registered for candidate in knowledge.catalog.candidates)
        if self._classifier is None or there == (not self.no_agent):
            return knowledge
        local = self._settings.local_model
        try:
            catalog = knowledge.catalog.with_local_agent(None if self.no_agent else local.model, local=local.local)
        except ConfigurationError:
            return knowledge  # a catalog that was put in its place since has an agent by that name
        return knowledge_of(catalog, msgspec.structs.replace(self._settings, decision=knowledge.decision))


def trial_brief(knowledge: Knowledge, text: str = _TEXT) -> Brief:
    """A question about a task like any other, about every candidate."""
    catalog = knowledge.catalog
    return Brief(
        task=Task(name="Fix the flaky login test", instructions=text),
        eligible=catalog.candidates,
        catalog=catalog,
        prompts=knowledge.prompts,
        value_usd=knowledge.decision.value_usd(None),
    )
