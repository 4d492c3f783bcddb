"""Where a command's instructions come from: an argument, stdin or a file."""

import sys
from pathlib import Path

import click

from service.contract.errors import InvalidInputError


def read_instructions(text: str | None, file: str | None) -> str | None:
    """TEXT itself, what stands on stdin for `-`, or the file's content; None where nothing was given.

    Raises InvalidInputError where it is not UTF-8.
    """
    if text is not None and file is not None:
        raise click.UsageError("TEXT or --file, not both.")
    if file is None and text != "-":
        return text
    body = read_file(file) if file is not None else sys.stdin.buffer.read()
    try:
        return body.decode()
    except UnicodeError:
        raise InvalidInputError("expected UTF-8 text", path="$.instructions") from None


def read_file(file: str) -> bytes:
    """What is in it; a wrong usage where it cannot be read."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
