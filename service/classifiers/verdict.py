"""A classifier's reply: found in what it wrote, validated by type, then against the eligible candidates."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from service.catalog import Candidate
from service.errors import PointsmanError
from service.text import one_line

REPLY_LIMIT = 64 * 1024
"""Characters of a reply that are read; a verdict has some 300."""

REASON_LIMIT = 500
MAX_MINUTES = 100_000.0
"""About a person's working year; above it the number is noise."""

_MAX_STARTS = 16
_THOUGHT_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THOUGHT_START = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_START = re.compile(r'\{\s*"')
_JSON = json.JSONDecoder(strict=False, parse_int=float)
"""Python's decoder and not msgspec's, because it finds where an object ends and what follows may be anything. It also
reads what models write and JSON forbids: line breaks inside a string, NaN. Integers of any length become floats."""


class VerdictError(PointsmanError):
    """The reply names no candidate that may be chosen; `problem` is a short word for it."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier's validated answer. `minutes` > 0 and `confidence` 0 to 1 are None where it gave none fit."""

    candidate: Candidate
    minutes: float | None
    confidence: float | None
    reason: str


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Only the choice must have its type: a good choice is not thrown away for its trimmings."""

    agent_type: str
    model: str
    minutes: Any = None
    confidence: Any = None
    reason: Any = None


def read_verdict(text: str, eligible: Sequence[Candidate], known: Sequence[Candidate]) -> Verdict:
    """Reads the one JSON object of a reply. Prose, fences, a list and `<think>` around it are passed over.

    Raises VerdictError (`no-json`, `wrong-shape`, `ambiguous`, `unknown-candidate`, `ineligible-candidate`), worded so
    that the model can be told. Linear in the length of `text`.
    """
    replies: list[_Reply] = []
    problem = VerdictError("no-json", "the reply holds no JSON object")
    for found in _objects(_without_thoughts(text[:REPLY_LIMIT])):
        try:
            replies.append(msgspec.convert(found, _Reply))
        except msgspec.ValidationError as error:
            problem = VerdictError("wrong-shape", one_line(str(error), 200))
    if not replies:
        raise problem
    if len({_folded(reply.agent_type, reply.model) for reply in replies}) > 1:
        raise VerdictError("ambiguous", "the reply holds several JSON objects that name different candidates")
    reply = replies[-1]
    return Verdict(
        candidate=_match(reply, eligible, known),
        minutes=_number(reply.minutes, above=0.0, at_most=MAX_MINUTES),
        confidence=_number(reply.confidence, above=-1e-12, at_most=1.0),
        reason=one_line(reply.reason, REASON_LIMIT) if isinstance(reply.reason, str) else "",
    )


def _match(reply: _Reply, eligible: Sequence[Candidate], known: Sequence[Candidate]) -> Candidate:
    """The candidate of exactly that name, else the one that differs in case and outer space only."""
    exact = (reply.agent_type, reply.model)
    named = [candidate for candidate in known if candidate.key == exact]
    if not named:
        folded = _folded(*exact)
        named = [candidate for candidate in known if _folded(*candidate.key) == folded]
    may = {candidate.key for candidate in eligible}
    chosen = next((candidate for candidate in named if candidate.key in may), None)
    if chosen is not None:
        return chosen
    written = one_line(f"{reply.agent_type}/{reply.model}", 200)
    if named:
        raise VerdictError("ineligible-candidate", f"{written} may not take this task")
    raise VerdictError("unknown-candidate", f"{written} is not in the list")


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


def _without_thoughts(text: str) -> str:
    """What stands outside `<think>…</think>`; a thought that was never closed hides all that follows it."""
    if text.lstrip().startswith("{") or "<" not in text:  # a reason may well speak of such tags
        return text
    end = 0  # templates may put the opening tag into the prompt, so that only the closing one is in the reply
    for match in _THOUGHT_END.finditer(text):
        end = match.end()
    start = _THOUGHT_START.search(text, end)
    return text[end : start.start()] if start else text[end:]


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
