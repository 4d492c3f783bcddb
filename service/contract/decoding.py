"""From bytes or a TOML tree to typed values, with an error that names the place: object keys written out.

msgspec writes `$.fleet[...].slots` where the value of an object is wrong; an operator needs `$.fleet.claude.slots`.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import msgspec

from service.base.text import one_line
from service.contract.errors import InvalidInputError

T = TypeVar("T")

_AT = re.compile(r" - at `(?P<key>key` in `)?(?P<path>\$(?:\.[A-Za-z_]\w*|\[(?:\d+|\.{3})\])*)`$", re.ASCII)
"""Only what msgspec itself writes: the name of an unknown field stands before it, and may look like another path."""
_STEP = re.compile(r"\.(?P<field>[^.\[]+)|\[(?P<index>\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_EXPECTED_LIMIT = 300
"""msgspec repeats a wrong value of an enumeration, which may be as long as the body."""
NAMED_WITHIN_BYTES = 262_144
"""Of a field in which a wrong value is named by its key. All that is allowed in one fits, and to look through the 8 MiB
of a body in search of a name would keep the event loop for half a second."""

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What msgspec raises on bad input: invalid UTF-8 and deep nesting are no `MsgspecError`s."""


def decode_json(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """Decodes `body`, or raises InvalidInputError with the path and what was expected there."""
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        # Tried again as JSON: some types, such as msgspec.Raw, are only read from there.
        raise _located(
            error, lambda field: _tree(body, field), lambda tree: decoder.decode(msgspec.json.encode(tree))
        ) from None
    except UnicodeError:
        raise InvalidInputError("expected UTF-8 text") from None
    except RecursionError:
        raise InvalidInputError("expected less deep nesting") from None
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"expected {_unreadable(body, error)}") from None
    return value


def _unreadable(body: bytes, error: msgspec.DecodeError) -> str:
    """What msgspec says of half of a surrogate pair speaks of a hexadecimal digit or of an end that are not missing."""
    if not body.strip():
        return "a JSON document, got an empty body"
    misread = any(word in str(error) for word in ("truncated", "surrogate", "hex escape")) and _SURROGATE.search(body)
    return f"a JSON document: {error}" + ("; `\\ud800` to `\\udfff` are text in pairs only" if misread else "")


def decode_lines(body: bytes, decoder: "msgspec.json.Decoder[T]") -> Iterator[tuple[int, T | InvalidInputError]]:
    """One document a line, with the line's number; empty lines are left out. What is wrong is given and not raised."""
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            try:
                yield number, decode_json(line, decoder)
            except InvalidInputError as error:
                yield number, error


def convert_tree(tree: object, kind: type[T], *, strict: bool = True) -> T:
    """Converts plain data (from TOML, or the environment where `strict` is off), with the same errors."""
    try:
        return msgspec.convert(tree, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _located(error, lambda _: tree, lambda part: msgspec.convert(part, kind, strict=strict)) from None
    except RecursionError:
        raise InvalidInputError("expected less deep nesting") from None


def _tree(body: bytes, field: str) -> object:
    """The body with `field` as plain data, to look up names in; the others stay as they were written, because they may
    be megabytes of something else. None where the body is no object, or `field` too large for any that is allowed."""
    try:
        tree: dict[str, object] = dict(_FIELDS.decode(body))
        written = cast("msgspec.Raw", tree[field])
        if memoryview(written).nbytes > NAMED_WITHIN_BYTES:
            return None
        tree[field] = msgspec.json.decode(written)
    except (*DECODE_ERRORS, KeyError):
        return None
    return tree


def _located(
    error: msgspec.ValidationError, whole: Callable[[str], object], read: Callable[[object], object]
) -> InvalidInputError:
    """`whole` gives the plain data of a field, and is asked only where a key is to be found in it: that is costly."""
    message = str(error)
    found = _AT.search(message)
    expected, path = (message[: found.start()], found["path"]) if found else (message, "$")
    if (unknown := _UNKNOWN.fullmatch(expected)) is not None:
        expected, path = "unknown field", path + _written(unknown["name"])
    elif (missing := _MISSING.fullmatch(expected)) is not None:
        expected, path = "a required field is missing", path + _written(missing["name"])
    expected = one_line(expected[:1].lower() + expected[1:], _EXPECTED_LIMIT)
    if found and found["key"]:
        return InvalidInputError(f"in a key, {expected}", path=path)
    prefix, wildcard, rest = path.partition("[...]")
    if wildcard:
        first = _STEP.match(prefix, 1)
        tree = whole(first["field"] or "" if first else "")
        key = _key_at_fault(prefix, message, tree, read)
        path = path if key is None else f"{prefix}{_written(key)}{rest}"
    return InvalidInputError(expected, path=path)


def _key_at_fault(prefix: str, message: str, tree: object, read: Callable[[object], object]) -> str | None:
    """Finds by bisection the object key that `[...]` stands for: n log n, however many keys the object has."""
    steps = [match["field"] or int(match["index"]) for match in _STEP.finditer(prefix)]
    holder = _get(tree, steps)
    if not isinstance(holder, dict) or not holder:
        return None
    items = list(cast("dict[str, object]", holder).items())

    def at_fault(some: list[tuple[str, object]]) -> bool:
        return _fails(_put(tree, steps, dict(some)), read, message)

    while len(items) > 1:
        half = items[: len(items) // 2]
        items = half if at_fault(half) else items[len(half) :]
    return items[0][0] if at_fault(items) else None


def _written(key: str) -> str:
    """A step of a path. JSON leaves C1 controls and marks that turn text around as they are; an error shows none."""
    if _PLAIN.fullmatch(key):
        return f".{key}"
    quoted = msgspec.json.encode(key[:100]).decode()
    shown = "".join(c if c.isprintable() else "\\u007f" if c == "\x7f" else json.dumps(c)[1:-1] for c in quoted)
    return f"[{shown}]"


def _fails(tree: object, read: Callable[[object], object], message: str) -> bool:
    try:
        read(tree)
    except msgspec.ValidationError as error:
        return str(error) == message
    except (*DECODE_ERRORS, OverflowError):  # an integer beyond 64 bits can be read as JSON and not written
        return False
    return False


def _get(tree: object, steps: list[str | int]) -> object:
    for step in steps:
        try:
            tree = cast("Any", tree)[step]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _put(tree: object, steps: list[str | int], value: object) -> object:
    """A copy of `tree` with `value` at `steps`; only the containers on the way are copied."""
    if not steps:
        return value
    copy: Any = cast("Any", tree).copy()
    copy[steps[0]] = _put(copy[steps[0]], steps[1:], value)
    return copy
