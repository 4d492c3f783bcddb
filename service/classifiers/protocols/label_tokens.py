"""Tokens with the probabilities of what might have stood there instead, and what they say of labels of one letter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from service.classifiers.protocols.shares import normalised
from service.classifiers.verdict import VerdictError

LEAST_SEEN = 0.02
"""Where all labels together have less, the model did not mean to answer with one."""

_SPACE = " \t\r\n\u2581\u0120\u010a"
"""Also as tokenizers write it: ▁, Ġ and Ċ."""


class _Alternative(msgspec.Struct, frozen=True):
    token: str
    logprob: float | None = None
    prob: float | None = None

    @property
    def probability(self) -> float:
        """0 where it is no probability."""
        value = self.prob if self.prob is not None else math.exp(min(self.logprob or -99.0, 0.0))
        return value if 0.0 <= value <= 1.0 else 0.0


class _Emitted(msgspec.Struct, frozen=True):
    token: str
    top_logprobs: list[_Alternative] | None = None
    top_probs: list[_Alternative] | None = None


class _LogProbs(msgspec.Struct, frozen=True):
    content: list[_Emitted] | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """What was written, and what might have been: text → probability, spaces before it taken off."""

    text: str
    alternatives: Mapping[str, float]


def tokens_of(raw: object) -> list[Token]:
    """The tokens in the `logprobs` of a reply, from the first that is more than space; empty where there are none."""
    try:
        emitted = msgspec.convert(raw, _LogProbs).content or []
    except (msgspec.MsgspecError, RecursionError):
        return []
    tokens: list[Token] = []
    for one in emitted:
        text = one.token if tokens else one.token.lstrip(_SPACE)
        if not text:
            continue
        found: dict[str, float] = {}
        for other in one.top_probs or one.top_logprobs or []:
            bare = other.token if tokens else other.token.lstrip(_SPACE)
            found[bare] = found.get(bare, 0.0) + other.probability
        tokens.append(Token(text, found))
    return tokens


def label_shares(tokens: Sequence[Token], asked: Sequence[str], position: int) -> tuple[float, ...]:
    """The share of each label of the question at `position`; `asked` has the labels of every question, as characters.

    A token may hold several labels. A label that is not among those whose probabilities were told gets as much as the
    last of them, at most an equal part of what is left. Raises VerdictError (`no-label`).
    """
    begun = 0
    for token in tokens:
        offset = position - begun
        if not _fits(token.text[:offset], asked, begun):
            break
        if offset < len(token.text):
            return _shares(token, asked, position, offset)
        begun += len(token.text)
    raise VerdictError("no-label", "the reply has no label where one was asked for")


def _shares(token: Token, asked: Sequence[str], position: int, offset: int) -> tuple[float, ...]:
    labels, written = asked[position], token.text[:offset]
    reached = {text: p for text, p in token.alternatives.items() if text.startswith(written)}
    seen = dict.fromkeys(labels, 0.0)
    for text, probability in reached.items():
        if len(text) > offset and _fits(text, asked, position - offset):
            seen[text[offset]] += probability
    among, known = sum(reached.values()), sum(seen.values())
    if not known > LEAST_SEEN * max(among, LEAST_SEEN):
        raise VerdictError("no-label", "next to nothing of the probability is on a label")
    missing = [label for label, share in seen.items() if share == 0.0]
    if missing and offset == 0:
        least = min(min(reached.values()), max(0.0, 1.0 - among) / len(missing))
        seen |= dict.fromkeys(missing, least)
    return normalised([seen[label] for label in labels])


def _fits(text: str, asked: Sequence[str], begun: int) -> bool:
    """Whether each of its characters is a label of the question that it would answer."""
    return begun + len(text) <= len(asked) and all(c in asked[begun + i] for i, c in enumerate(text))
