"""What a command reads: its instructions from an argument, stdin or a file, and whole files."""

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
    body = read_input("-") if file is None else read_file(file)
    try:
        return body.decode()
    except UnicodeError:
        raise InvalidInputError("expected UTF-8 text", path="$.instructions") from None


def read_input(file: str) -> bytes:
    """A file, or stdin for `-`."""
    return sys.stdin.buffer.read() if file == "-" else read_file(file)


def read_file(file: str) -> bytes:
    """Wrong usage where it cannot be read."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
