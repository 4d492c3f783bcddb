"""What the subcommands share: how they end, their settings, the core for one command."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from service.contract.errors import ConfigurationError, PointsmanError
from service.contract.problem import Problem, problem_of
from service.contract.settings import Settings, load_settings
from service.llm.errors import LLMRequestError
from service.logs.lines import configure_command_logging
from service.logs.output import print_json, say

if TYPE_CHECKING:
    from service.core import Core

F = TypeVar("F", bound=Callable[..., Any])

PROBLEM = 1
MISUSE = 2


class WrongConfigurationError(click.ClickException):
    """Shown as one line on stderr; exit code 2."""

    exit_code = MISUSE


class Command(click.Command):
    """What the core raises ends it with the exit code and the words that the contract has for that."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(ctx)
        except (ConfigurationError, LLMRequestError) as error:  # the latter: an endpoint that can never work
            raise WrongConfigurationError(str(error)) from None
        except PointsmanError as error:
            end_with(problem_of(error), as_json=ctx.params.get("as_json", False))


def config_option(command: F) -> F:
    """`--config F`, which every command takes."""
    return click.option(
        "--config", "config", type=click.Path(dir_okay=False), help="The settings file; else POINTSMAN_CONFIG."
    )(command)


def json_option(command: F) -> F:
    """`--json`: exactly one JSON document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON document.")(command)


def settings_of(config: str | None) -> Settings:
    """The settings. Raises ConfigurationError that names the place."""
    configure_command_logging()
    return load_settings(config, os.environ)


@asynccontextmanager
async def running_core(settings: Settings, *, learned: bool = True) -> "AsyncGenerator[Core]":
    """A core for the length of one command, with what is recorded already learned; or else without any database."""
    # Half a second's worth of imports, which a command that only asks a running service does not need.
    from service.core import Core

    core = Core(settings)
    try:
        if learned:
            await core.start(learn_first=True)
        yield core
    finally:
        await core.aclose()


def end_with(problem: Problem, *, as_json: bool) -> NoReturn:
    """Prints a problem, as a document on stdout with `--json`, else in words on stderr; exit code 1."""
    if as_json:
        print_json(problem)
        raise SystemExit(PROBLEM)
    say(f"{problem.title}: {problem.detail}", err=True)
    if problem.wait_until:
        say(f"wait until {problem.wait_until.isoformat()}", err=True)
    for pair in problem.excluded or ():
        say(f"{pair.agent_type}/{pair.model}: {pair.why}", mark="  ", err=True)
    for failure in problem.failures or ():
        say(f"{failure.source}: {failure.problem}: {failure.detail}", mark="  ", err=True)
    raise SystemExit(PROBLEM)
