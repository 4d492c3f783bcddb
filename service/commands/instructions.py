"""What a command reads: its instructions from an argument, stdin or a file, and whole files."""

import re
import sys
from pathlib import Path
from typing import IO, TypeVar

import click
import msgspec

from service.contract.decoding import decode_json
from service.contract.errors import InvalidInputError, WrongFileError

T = TypeVar("T")

_LINE_END = b"\n"
_BYTE = re.compile(r"\(byte (\d+)\)")


def read_instructions(text: str | None, file: str | None) -> str | None:
    """TEXT itself, what stands on stdin for `-`, or the file's content; None where nothing was given.

    Raises WrongFileError where it is not UTF-8.
    """
    if text is not None and file is not None:
        raise click.UsageError("TEXT or --file, not both.")
    if file is None and text != "-":
        return text
    source = file or "-"
    try:
        return read_input(source).decode()
    except UnicodeError:
        raise WrongFileError("expected UTF-8 text", source=_name(source)) from None


def read_input(file: str) -> bytes:
    """A file, or stdin for `-`. Wrong usage where it cannot be read."""
    try:
        return _stdin().read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{_name(file)}: cannot be read: {error.strerror}") from None


def decode_file(file: str, decoder: "msgspec.json.Decoder[T]") -> T:
    """One JSON document. Raises WrongFileError that names the file and, where that is known, the line."""
    body = read_input(file)
    try:
        return decode_json(body, decoder)
    except InvalidInputError as error:
        raise WrongFileError(error.expected, path=error.path, source=_name(file) + _line(body, error)) from None


def _stdin() -> IO[bytes]:
    if sys.stdin is None:  # it was closed before this program began
        raise click.UsageError("stdin: cannot be read: it is closed")
    return sys.stdin.buffer


def _line(body: bytes, error: InvalidInputError) -> str:
    """Where the text is no JSON; what has the wrong shape is found by its path."""
    at = _BYTE.search(error.expected)
    if at is None:
        return ""
    return f", line {1 + body.count(_LINE_END, 0, int(at[1]))}"


def _name(file: str) -> str:
    return "stdin" if file == "-" else file
