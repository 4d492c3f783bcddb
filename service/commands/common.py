"""What the subcommands share: settings, the core for one command, and how results and problems are printed."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import msgspec

from service.api.problems import problem_of
from service.base.text import inert, one_line
from service.contract.errors import ConfigurationError, PointsmanError
from service.contract.problem import Problem
from service.contract.settings import Settings, load_settings
from service.logs.lines import configure_command_logging

if TYPE_CHECKING:
    from service.core import Core

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

PROBLEM = 1
MISUSE = 2

LINE_LIMIT = 1000


class WrongConfigurationError(click.ClickException):
    """Shown as one line on stderr; exit code 2."""

    exit_code = MISUSE


def config_option(command: F) -> F:
    """`--config F`, which every command takes."""
    return click.option(
        "--config", "config", type=click.Path(dir_okay=False), help="The settings file; else POINTSMAN_CONFIG."
    )(command)


def json_option(command: F) -> F:
    """`--json`: exactly one JSON document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON document.")(command)


def settings_of(config: str | None) -> Settings:
    """The settings, or exit code 2 with one line that names the place."""
    configure_command_logging()
    try:
        return load_settings(config, os.environ)
    except ConfigurationError as error:
        raise WrongConfigurationError(str(error)) from None


@asynccontextmanager
async def running_core(settings: Settings, *, learned: bool = True) -> "AsyncGenerator[Core]":
    """A core for the length of one command, with what is recorded already learned; or else without any database."""
    # Half a second's worth of imports, which a command that only asks a running service does not need.
    from service.core import Core

    try:
        core = Core(settings)
    except PointsmanError as error:
        raise WrongConfigurationError(str(error)) from None
    try:
        if learned:
            await core.start(learn_first=True)
        yield core
    finally:
        await core.aclose()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end; Ctrl-C cancels it, and cleaning up is waited for."""
    return asyncio.run(work)


def print_json(value: object) -> None:
    """Exactly one JSON document, on stdout. Characters that would act on a terminal are written as `\\uXXXX`."""
    click.echo(inert(msgspec.json.format(msgspec.json.encode(value), indent=2)))


def say(text: str, *, err: bool = False) -> None:
    """One line for a person, without anything that would act on a terminal."""
    click.echo(one_line(text, LINE_LIMIT), err=err)


def end_with(error: PointsmanError, *, as_json: bool) -> NoReturn:
    """Ends with the problem document of `error`."""
    end_with_problem(problem_of(error), as_json=as_json)


def end_with_problem(problem: Problem, *, as_json: bool) -> NoReturn:
    """Prints a problem, as a document on stdout with `--json`, else in words on stderr; exit code 1."""
    if as_json:
        print_json(problem)
        raise SystemExit(PROBLEM)
    say(f"{problem.title}: {problem.detail}", err=True)
    if problem.wait_until:
        say(f"wait until {problem.wait_until.isoformat()}", err=True)
    for pair in problem.excluded or ():
        click.echo("  ", nl=False, err=True)
        say(f"{pair.agent_type}/{pair.model}: {pair.why}", err=True)
    for failure in problem.failures or ():
        click.echo("  ", nl=False, err=True)
        say(f"{failure.source}: {failure.problem}: {failure.detail}", err=True)
    raise SystemExit(PROBLEM)
