"""The protocol `labels`: each question is answered by one letter or digit, read from the probabilities of the tokens.

One token takes a sixth of the time of a JSON object. The labels are single characters, because those are single tokens
in every tokenizer in use. Where the server knows grammars (llama.cpp) only labels can come, and their probabilities sum
to one. Elsewhere they are looked for among the twenty likeliest tokens, which often have only some of them.
"""

import os
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from service.base.secrets import masked
from service.classifiers.classifier import KEPT_REPLY, Brief, Classified
from service.classifiers.prompt import fence
from service.classifiers.protocols.asking import NotSpokenError, failure, not_spoken, useless
from service.classifiers.protocols.label_tokens import Token, label_shares, tokens_of
from service.classifiers.protocols.questions import (
    LEVELS,
    MAX_OPTIONS,
    Questions,
    candidate_in_words,
    questions_about,
    turned,
)
from service.classifiers.protocols.slot_bias import SlotBias, Slots
from service.classifiers.protocols.weighing import weigh
from service.classifiers.verdict import VerdictError
from service.contract.catalog import Candidate
from service.contract.decision import Usage
from service.contract.settings import LocalModelSettings, ProtocolName
from service.llm.client import CHAT_PATH, LLMClient
from service.llm.errors import LLMError, LLMReplyError, LLMStatusError
from service.llm.wire import decoded, usage_of

TURNS = 3
"""Orders of the options. Each is a fixed part of its own that the server's prefix cache has to hold."""

TOP = 20
"""Tokens whose probabilities are asked for: servers refuse more."""

_CANDIDATES, _LEVELS, _KINDS = string.ascii_uppercase, "123456789", string.ascii_lowercase


class _Choice(msgspec.Struct, frozen=True):
    logprobs: Any = None


class _Reply(msgspec.Struct, frozen=True):
    choices: list[_Choice] | None = None
    usage: Any = None


_REPLY = msgspec.json.Decoder(_Reply)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The questions with their labels: `asked` are those that may be answered, one string for each question."""

    questions: Questions
    listed: tuple[Candidate, ...]
    asked: tuple[str, ...]

    @property
    def text(self) -> str:
        """The fixed part: every candidate, level and kind with its label."""
        said = self.questions.instructions
        lines = [said["candidate"]]
        lines += [f"{label}: {candidate_in_words(one)}" for label, one in zip(_CANDIDATES, self.listed, strict=False)]
        lines += [said["minutes"], *(f"{label}: {one.says}" for label, one in zip(_LEVELS, LEVELS, strict=False))]
        if self.questions.kinds:
            says = zip(_KINDS, self.questions.kinds, self.questions.kind_says, strict=False)
            lines += [said["kind"], *(f"{label}: {kind}: {text}" for label, kind, text in says)]
        return "\n".join(lines)

    @property
    def slots(self) -> Slots:
        """Where the candidates that are asked about stand in the list."""
        return Slots([_CANDIDATES.index(label) for label in self.asked[0]], len(self.listed))

    @property
    def form(self) -> str:
        """What an answer looks like, in words."""
        example = "".join(labels[min(1, len(labels) - 1)] for labels in self.asked)
        kind = ", the letter of its kind" if self.questions.kinds else ""
        count = {2: "two", 3: "three"}[len(self.asked)]
        return f"{count} characters: the letter of the candidate, the digit of the time{kind}, such as {example},"

    @property
    def grammar(self) -> str:
        """In llama.cpp's notation."""
        return "root ::= " + " ".join(f"[{labels}]" for labels in self.asked)


class Labels:
    """Asks a chat model through `client`, which is lent."""

    name: ProtocolName = "labels"

    def __init__(
        self,
        client: LLMClient,
        settings: LocalModelSettings,
        *,
        grammar: bool = True,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`grammar` is given up where the server refuses a request that has one."""
        self.grammar = grammar
        self._client = client
        self._max_task_tokens = settings.max_task_tokens
        self._random_bytes = random_bytes
        self._bias = SlotBias()

    async def ask(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """Weighs every eligible candidate, or raises ClassifierError or NotSpokenError."""
        sheet = _sheet(brief)
        user = self._user(brief, sheet)
        system = brief.prompts.labels_system.substitute(questions=sheet.text)
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        prompt = f"{system}\n\n{user}"
        try:
            body = await self._post(messages, sheet, timeout_seconds)
            reply: _Reply = decoded(_REPLY, body)
            if not reply.choices:
                raise LLMReplyError("the answer has no choices", problem="no-choices")
        except LLMError as error:
            if not_spoken(error, asked=prompt, words=("logprob",)):
                raise NotSpokenError(str(error)) from None
            raise failure(error, prompt=prompt) from None
        if reply.choices[0].logprobs is None:
            raise NotSpokenError("the server gives no log probabilities")
        usage = usage_of(reply.usage) or Usage()
        text = masked(body.decode("utf-8", "replace"), self._client.endpoint.secrets)[:KEPT_REPLY]
        tokens = tokens_of(reply.choices[0].logprobs)
        try:
            candidates = label_shares(tokens, sheet.asked, 0)
        except VerdictError as error:
            raise useless(error, prompt=prompt, reply=text, usage=usage) from None
        verdict = weigh(
            sheet.questions,
            self._bias,
            self.name,
            candidates=candidates,
            slots=sheet.slots,
            levels=_shares_or_none(tokens, sheet.asked, 1),
            kinds=_shares_or_none(tokens, sheet.asked, 2) if sheet.questions.kinds else (),
        )
        return Classified(verdict=verdict, usage=usage, prompt=prompt, reply=text)

    async def _post(self, messages: list[dict[str, str]], sheet: _Sheet, timeout_seconds: float) -> bytes:
        fields = {"messages": messages, "max_tokens": len(sheet.asked), "logprobs": True, "top_logprobs": TOP}
        if not self.grammar:
            return await self._client.post(CHAT_PATH, {**fields, "temperature": 0}, timeout_seconds=timeout_seconds)
        # Probabilities after the grammar are also after the sampler, which therefore must not change any.
        untouched = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 0, "post_sampling_probs": True}
        body = {**fields, **untouched, "grammar": sheet.grammar}
        try:
            return await self._client.post(CHAT_PATH, body, timeout_seconds=timeout_seconds)
        except LLMStatusError as error:
            if error.status not in {400, 422} or "context" in error.body:
                raise
        plain = await self._client.post(CHAT_PATH, {**fields, "temperature": 0}, timeout_seconds=timeout_seconds)
        self.grammar = False
        return plain

    def _user(self, brief: Brief, sheet: _Sheet) -> str:
        fenced = fence(brief.task, max_task_tokens=self._max_task_tokens, random_bytes=self._random_bytes)
        everyone = len(sheet.asked[0]) == len(sheet.listed)
        return brief.prompts.labels_user.substitute(
            value=f"{brief.value_usd:g}",
            eligible="all of the list." if everyone else f"only {', '.join(sheet.asked[0])}",
            form=sheet.form,
            **fenced.fields,
        )


def _sheet(brief: Brief) -> _Sheet:
    """The whole catalog is listed where it is short, so that the fixed part stays the same whoever is eligible."""
    questions = questions_about(brief, turns=TURNS)
    catalog = brief.catalog.candidates
    listed = turned(catalog, questions.turn) if len(catalog) <= MAX_OPTIONS else questions.candidates
    label = {one.key: _CANDIDATES[place] for place, one in enumerate(listed)}
    asked = ["".join(label[one.key] for one in questions.candidates), _LEVELS[: len(LEVELS)]]
    if questions.kinds:
        asked.append(_KINDS[: len(questions.kinds)])
    return _Sheet(questions, listed, tuple(asked))


def _shares_or_none(tokens: Sequence[Token], asked: Sequence[str], position: int) -> tuple[float, ...]:
    """A good choice is not thrown away for what else was asked."""
    try:
        return label_shares(tokens, asked, position)
    except VerdictError:
        return ()
