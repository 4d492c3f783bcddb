"""What an agent CLI wraps its answer in, read; each program says in its own module how its envelope looks.

The answer is what counts: an envelope without one is an error, one with statistics of another shape is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar, cast

import msgspec
from msgspec import Meta

from service.contract.decision import Usage
from service.contract.decoding import DECODE_ERRORS
from service.contract.errors import PointsmanError

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, le=2**53)]

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class CliReply:
    """A program's answer, unwrapped, and what it told of its cost."""

    text: str
    usage: Usage = field(default_factory=Usage)


class CliEnvelopeError(PointsmanError):
    """A program ended well and yet gave no answer.

    `problem` is `bad-envelope` where its output is not what it should be, `reported-error` where it says in there that
    it failed.
    """

    def __init__(self, message: str, *, problem: str = "bad-envelope") -> None:
        super().__init__(message)
        self.problem = problem


def decode(text: str, decoder: "msgspec.json.Decoder[T]", what: str) -> T:
    """The envelope of `what`, or CliEnvelopeError."""
    try:
        return decoder.decode(_bare(text))
    except DECODE_ERRORS as error:
        raise CliEnvelopeError(f"its output is not that of `{what}`: {str(error)[:200]}") from None


def decode_or_none(raw: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[T]") -> T | None:
    """Statistics, None where they have another shape."""
    try:
        return decoder.decode(raw)
    except DECODE_ERRORS:
        return None


def fields_of(text: str) -> Mapping[str, bytes]:
    """The members of the JSON object that `text` is, each as it is written; none where it is no object."""
    fields = decode_or_none(_bare(text).encode(errors="replace"), _FIELDS) or {}
    return {name: bytes(value) for name, value in fields.items()}


def reported(error: object) -> CliEnvelopeError:
    """The error for what a program says in its envelope: an object with `message`, or anything else."""
    message = cast("dict[str, object]", error).get("message") if isinstance(error, dict) else None
    return CliEnvelopeError(f"it reports: {error if message is None else message}", problem="reported-error")


def _bare(text: str) -> str:
    return text.strip("\ufeff \t\r\n")
