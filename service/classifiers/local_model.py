"""The local model as a classifier, asked by the protocol that is set, or that its server was found to speak."""

import os
import time
from collections.abc import Callable
from typing import Literal

import structlog

from service.base.text import one_line
from service.classifiers.classifier import Blame, Brief, Classified, ClassifierError
from service.classifiers.protocols.asking import Asking, NotSpokenError
from service.classifiers.protocols.chat import Chat
from service.classifiers.protocols.deciding import Deciding
from service.classifiers.protocols.decisions import Decisions
from service.classifiers.protocols.labels import Labels
from service.classifiers.protocols.system_one import SystemOne
from service.contract.decision import Source
from service.contract.settings import LocalModelSettings, ProtocolName
from service.llm.client import LLMClient

_NO_CHAT = frozenset({"http-400", "http-404", "http-405", "http-422", "http-501"})
"""How servers refuse a chat that they have no route or no model for."""


class LocalModelClassifier:
    """Asks an OpenAI-compatible server through `client`, which is lent and not closed here."""

    source: Source = "local_model"
    least_seconds = 0.0
    patience_seconds = 1.0

    def __init__(
        self,
        client: LLMClient,
        settings: LocalModelSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.client = client
        self.name = settings.model
        self.local = settings.local
        self.timeout_seconds = settings.timeout_seconds
        self.configured: ProtocolName | Literal["auto"] = settings.protocol
        self.protocol: ProtocolName = "chat" if settings.protocol == "auto" else settings.protocol
        """How it is asked now."""
        self._clock = clock
        self.ways: dict[ProtocolName, Asking] = {
            "chat": Chat(client, settings, clock=clock, random_bytes=random_bytes),
            "labels": Labels(client, settings, random_bytes=random_bytes),
            "systemone": Deciding(SystemOne(), client, settings, random_bytes=random_bytes),
            "decisions": Deciding(Decisions(), client, settings, random_bytes=random_bytes),
        }
        self._log = structlog.get_logger("pointsman.classifiers")

    def available(self) -> bool:
        """True: only asking tells."""
        return True

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """Names an eligible candidate, or raises ClassifierError.

        A server that does not speak the protocol (any more) is asked by chat in the time that is left, and from then on
        until `speak` is called: that is nothing wrong with the server, and no failure. One that refuses to chat as well
        has shown nothing, and is asked as before: a proxy may have lost its server for a moment.
        """
        started = self._clock()
        way = self.ways[self.protocol]
        try:
            return await way.ask(brief, timeout_seconds=timeout_seconds)
        except NotSpokenError as error:
            why = str(error)
        left = timeout_seconds - (self._clock() - started)
        if left <= 0:
            self._chat_from_now_on(way.name, why)
            raise ClassifierError("timeout", f"no time was left to ask by chat after: {why}", blame=Blame.REQUEST)
        try:
            found = await self.ways["chat"].ask(brief, timeout_seconds=left)
        except ClassifierError as error:
            if error.problem not in _NO_CHAT:
                self._chat_from_now_on(way.name, why)
            elif way.name != "chat":
                error.args = (f"it speaks neither {way.name} nor chat: {error}",)
            raise
        self._chat_from_now_on(way.name, why)
        return found

    def _chat_from_now_on(self, instead_of: ProtocolName, why: str) -> None:
        if instead_of == self.protocol != "chat":  # another request may have found it out meanwhile
            self._log.warning("asks by chat from now on", protocol=instead_of, problem=one_line(why, 300))
            self.protocol = "chat"

    def speak(self, protocol: ProtocolName) -> None:
        """Asks by this protocol from now on."""
        self.protocol = protocol

    async def aclose(self) -> None:
        """Does nothing: whoever made the client closes it."""
