"""A classifier's reply: found in what it wrote, validated by type, then against the eligible candidates."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from service.base.text import one_line
from service.classifiers.codes import candidate_of, in_names
from service.contract.catalog import Candidate
from service.contract.errors import PointsmanError
from service.contract.task import key_of
from service.llm.thinking import without_thoughts

REPLY_LIMIT = 64 * 1024
"""Characters of a reply that are read; a verdict has some 300."""

REASON_LIMIT = 500
MAX_MINUTES = 100_000.0
"""About a person's working year; above it the number is noise."""

_MAX_STARTS = 16
_START = re.compile(r'\{\s*"')
_JSON = json.JSONDecoder(strict=False, parse_int=float)
"""Python's decoder and not msgspec's, because it finds where an object ends and what follows may be anything. It also
reads what models write and JSON forbids: line breaks inside a string, NaN. Integers of any length become floats."""


class VerdictError(PointsmanError):
    """The reply names no candidate that may be chosen; `problem` is a short word for it."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What a protocol that gives probabilities gave: by candidate, by kind, by level of minutes; each sums to one, or
    is empty where it was not asked or not answered. `protocol` is its name, `note` what was not asked about."""

    protocol: str
    candidates: tuple[tuple[Candidate, float], ...]
    kinds: dict[str, float] = {}
    levels: tuple[tuple[float, float], ...] = ()
    note: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier's validated answer. `minutes` > 0, `confidence` 0 to 1 and `kind` are None where it gave none fit,
    `weighed` where it gave no probabilities."""

    candidate: Candidate
    kind: str | None = None
    minutes: float | None
    confidence: float | None
    reason: str
    weighed: Weighed | None = None


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Only the choice must have its type: a good choice is not thrown away for its trimmings."""

    kind: Any = None
    minutes: Any = None
    confidence: Any = None
    reason: Any = None


class _Coded(_Reply, frozen=True, kw_only=True):
    """What is asked for."""

    code: str | float


class _Named(_Reply, frozen=True, kw_only=True):
    """What a model may write all the same, and what is asked for by prompts of an operator's own."""

    agent_type: str
    model: str
    effort: object = None


def read_verdict(
    text: str, eligible: Sequence[Candidate], known: Sequence[Candidate], kinds: Sequence[str] = ()
) -> Verdict:
    """Reads the one JSON object of a reply. Prose, fences, a list and `<think>` around it are passed over.

    Raises VerdictError (`no-json`, `wrong-shape`, `ambiguous`, `unknown-candidate`, `ineligible-candidate`), worded so
    that the model can be told. Linear in the length of `text`.
    """
    replies: list[tuple[Candidate | str, _Reply]] = []
    problem = VerdictError("no-json", "the reply holds no JSON object")
    for found in _objects(without_thoughts(text[:REPLY_LIMIT])):
        try:
            replies += _choices(found, eligible, known)
        except msgspec.ValidationError as error:
            problem = VerdictError("wrong-shape", one_line(str(error), 200))
    if not replies:
        raise problem
    if len({choice if isinstance(choice, str) else choice.key for choice, _ in replies}) > 1:
        raise VerdictError("ambiguous", "the reply names different candidates")
    choice, reply = replies[-1]
    if isinstance(choice, str):
        raise VerdictError("unknown-candidate", f"{choice} is not in the list")
    if choice not in eligible:
        raise VerdictError("ineligible-candidate", f"{choice} may not take this task")
    return Verdict(
        candidate=choice,
        kind=_kind(reply.kind, kinds),
        minutes=_number(reply.minutes, above=0.0, at_most=MAX_MINUTES),
        confidence=_number(reply.confidence, above=-1e-12, at_most=1.0),
        reason=_reason(reply.reason, known),
    )


def _choices(
    found: object, eligible: Sequence[Candidate], known: Sequence[Candidate]
) -> list[tuple[Candidate | str, _Reply]]:
    """Whom one JSON object names, by code, by name or by both; what stands for nobody as it is written."""
    fields = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    if "agent_type" not in fields and "model" not in fields:
        coded = msgspec.convert(found, _Coded)
        return [(candidate_of(coded.code, known) or one_line(f"code {coded.code}", 200), coded)]
    named = msgspec.convert(found, _Named)
    choice = _named(named, eligible, known)
    code = fields.get("code")
    meant = candidate_of(code, known) if isinstance(code, str | float) else None
    if meant is None:
        return [(choice, named)]
    return [(meant, named)] if isinstance(choice, str) else [(choice, named), (meant, named)]


def _named(reply: _Named, eligible: Sequence[Candidate], known: Sequence[Candidate]) -> Candidate | str:
    """The candidate of exactly that name, else one that differs in case and outer space only, an eligible one first."""
    effort = reply.effort if isinstance(reply.effort, str) and reply.effort.strip() else None
    exact = key_of(reply.agent_type, reply.model, effort)
    folded = _folded(*exact)
    named = [c for c in known if c.key == exact] or [c for c in known if _folded(*c.key) == folded]
    chosen = next((candidate for candidate in named if candidate in eligible), None)
    return chosen or (named[0] if named else one_line("/".join(exact), 200))


def _reason(given: object, known: Sequence[Candidate]) -> str:
    """For a person: with names instead of codes, in one line."""
    if not isinstance(given, str):
        return ""
    return one_line(in_names(one_line(given, REASON_LIMIT), known), REASON_LIMIT)


def _kind(given: object, kinds: Sequence[str]) -> str | None:
    """The kind that it names, whatever its case; a kind that the catalog does not have says nothing."""
    name = given.strip().casefold() if isinstance(given, str) else ""
    return next((kind for kind in kinds if kind.casefold() == name), None)


def _folded(agent_type: str, model: str) -> tuple[str, str]:
    return agent_type.strip().casefold(), model.strip().casefold()


def _number(value: object, *, above: float, at_most: float) -> float | None:
    """The value as a float where it is a finite number in range, also where it is written as a string."""
    if isinstance(value, str):
        try:
            value = float(value[:32])
        except ValueError:
            return None
    if not isinstance(value, float):
        return None
    return max(value, 0.0) if math.isfinite(value) and above < value <= at_most else None


def _objects(text: str) -> Iterator[object]:
    """The outermost JSON objects. A brace in prose that opens none is passed over, a few times."""
    position = 0
    for _ in range(_MAX_STARTS):
        start = _START.search(text, position)
        if start is None:
            return
        try:
            found, position = _JSON.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            position = start.start() + 1
            continue
        yield found
