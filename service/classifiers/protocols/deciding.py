"""A decision model asked about a task, in either form of the request: state and questions in, probabilities out."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from service.base.secrets import masked
from service.base.text import one_line
from service.classifiers.classifier import KEPT_REPLY, Brief, Classified
from service.classifiers.prompt import fence
from service.classifiers.protocols.asking import NotSpokenError, failure, not_spoken, useless
from service.classifiers.protocols.questions import LEVELS, Questions, questions_about
from service.classifiers.protocols.shares import shares_of
from service.classifiers.protocols.slot_bias import SlotBias
from service.classifiers.protocols.weighing import weigh
from service.classifiers.verdict import VerdictError
from service.contract.decision import Usage
from service.contract.settings import LocalModelSettings, ProtocolName
from service.llm.client import LLMClient
from service.llm.errors import LLMError

Given = Mapping[str, Any] | VerdictError
"""The probabilities that one answer gives, by option, not looked at yet; or what is wrong with that answer."""


@dataclass(slots=True)
class Answers:
    """By the name of the question; those that were not answered are missing, those that were not asked are ignored."""

    given: dict[str, Given] = field(default_factory=dict[str, Given])
    usage: Usage = field(default_factory=Usage)


class Form(Protocol):
    """How request and answer are written."""

    name: ProtocolName
    path: str

    def request(self, state: str, questions: Questions) -> dict[str, Any]:
        """All but the model's name."""
        ...

    def answers(self, body: bytes) -> Answers:
        """What the body says. LLMReplyError where it is none, NotSpokenError where it answers another protocol."""
        ...


class Deciding:
    """Asks through `client`, which is lent."""

    def __init__(
        self,
        form: Form,
        client: LLMClient,
        settings: LocalModelSettings,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.name: ProtocolName = form.name
        self.form = form
        self.client = client
        self._max_task_tokens = settings.max_task_tokens
        self._random_bytes = random_bytes
        self._bias = SlotBias()

    async def ask(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """Weighs every eligible candidate, or raises ClassifierError or NotSpokenError."""
        questions = questions_about(brief)
        state = fence(brief.task, max_task_tokens=self._max_task_tokens, random_bytes=self._random_bytes).text
        body = self.form.request(state, questions)
        prompt = msgspec.json.encode(body).decode()
        try:
            reply = await self.client.post(self.form.path, body, timeout_seconds=timeout_seconds)
            answers = self.form.answers(reply)
        except LLMError as error:
            if not_spoken(error, asked=prompt):
                raise NotSpokenError(str(error)) from None
            raise failure(error, prompt=prompt) from None
        text = masked(reply.decode("utf-8", "replace"), self.client.endpoint.secrets)[:KEPT_REPLY]
        try:
            candidates = _shares(answers, "candidate", questions.candidate_codes)
        except VerdictError as error:
            raise useless(error, prompt=prompt, reply=text, usage=answers.usage) from None
        verdict = weigh(
            questions,
            self._bias,
            self.name,
            candidates=candidates,
            kinds=_shares_or_none(answers, "kind", questions.kinds),
            levels=_shares_or_none(answers, "minutes", LEVEL_KEYS),
        )
        return Classified(verdict=verdict, usage=answers.usage, prompt=prompt, reply=text)


LEVEL_KEYS = tuple([str(level) for level in range(len(LEVELS))])


def _shares(answers: Answers, name: str, options: tuple[str, ...]) -> tuple[float, ...]:
    given = answers.given.get(name)
    if given is None:
        raise VerdictError("no-answer", f"the reply has no answer to the question `{name}`")
    if isinstance(given, VerdictError):
        raise given
    return shares_of(given, options)


def _shares_or_none(answers: Answers, name: str, options: tuple[str, ...]) -> tuple[float, ...]:
    """A good choice is not thrown away for what else was asked."""
    if not options:
        return ()
    try:
        return _shares(answers, name, options)
    except VerdictError:
        return ()


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0


def usage_of(raw: object) -> Usage:
    """The tokens that the server counted; none where it did not."""
    try:
        counted = msgspec.convert(raw, _Usage)
    except (msgspec.MsgspecError, RecursionError):
        return Usage()
    return Usage(tokens_in=max(0, counted.input_tokens), tokens_out=max(0, counted.output_tokens))


def wrong(name: str, why: Exception | str) -> VerdictError:
    """The error for an answer that has no use."""
    return VerdictError("wrong-shape", one_line(f"the answer to `{name}`: {why}", 200))


def check_no_chat(answers: object, choices: object, path: str) -> None:
    """NotSpokenError where the reply is the answer of a chat: some servers answer everything so."""
    if answers is None and choices:
        raise NotSpokenError(f"the server answers {path} as if it were a chat")
