"""What a command prints: results on stdout, everything else on stderr, and nothing that would act on a terminal."""

import click
import msgspec

from service.base.text import inert, one_line

LINE_LIMIT = 1000


def print_json(value: object) -> None:
    """Exactly one JSON document, on stdout. Characters that would act on a terminal are written as `\\uXXXX`."""
    click.echo(inert(msgspec.json.format(msgspec.json.encode(value), indent=2)))


def say(text: str, *, mark: str = "", err: bool = False) -> None:
    """One line for a person; `mark` stands before it as it is."""
    click.echo(mark + one_line(text, LINE_LIMIT), err=err)
