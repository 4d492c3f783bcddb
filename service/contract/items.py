"""A batch in which one item cannot even be read as JSON: cut into its items, so that it fails alone."""

import re
from itertools import pairwise
from typing import TypeVar

import msgspec

from service.contract.decoding import decode_json
from service.contract.errors import InvalidInputError

T = TypeVar("T", bound=msgspec.Struct)

MOST_TOKENS = 250_000
"""What is looked at of a body that cannot be read, which takes some 50 ms: a batch of the longest tasks has a tenth."""

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
"""A string that is not closed goes on to the end; else each quotation mark in it would be tried, to the end again."""
_OPENING, _CLOSING = (b"[", b"{"), (b"]", b"}")


def decode_batch(body: bytes, decoder: "msgspec.json.Decoder[T]", field: str) -> T:
    """Decodes a batch whose items stand in `field`, a list of `msgspec.Raw`; each is decoded later, by itself.

    To skip over an item msgspec reads it, and so one with half of a surrogate pair, a control character or deep nesting
    in it makes the whole unreadable. Then the list is cut by its brackets alone. Raises InvalidInputError.
    """
    try:
        return decode_json(body, decoder)
    except InvalidInputError:
        cuts = _cuts(body, field)
        if cuts is None:
            raise
        items = [body[start + 1 : end].strip() for start, end in pairwise(cuts)]
        if not all(items):
            raise
        numbers = b",".join([b"0"] * len(items))
        envelope = decode_json(body[: cuts[0] + 1] + numbers + body[cuts[-1] :], decoder)
        return msgspec.structs.replace(envelope, **{field: [msgspec.Raw(item) for item in items]})


def _cuts(body: bytes, field: str) -> list[int] | None:
    """Where the list called `field` opens, where its commas stand and where it closes; None where that is not seen."""
    depth, name, cuts = 0, b"", list[int]()
    for number, token in enumerate(_TOKEN.finditer(body)):
        text = token[0]
        if number == MOST_TOKENS:
            return None
        if text in _OPENING:
            depth += 1
            if depth == 2 and text == b"[" and name == b'"%s"' % field.encode():
                cuts = [token.start()]
        elif text in _CLOSING:
            depth -= 1
            if depth == 1 and cuts:
                return [*cuts, token.start()]
        elif depth == 2 and cuts and text == b",":
            cuts.append(token.start())
        elif depth == 1:
            name = text
    return None
