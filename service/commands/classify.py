"""`pointsman classify`: one decision, made here or asked of a running service."""

import asyncio
import math
import re
from typing import Any, get_args

import click
import httpx
import msgspec

from service.base.text import one_line
from service.commands.common import Command, config_option, end_with, json_option, running_core, settings_of
from service.commands.instructions import decode_file, read_instructions
from service.contract.decision import Decision
from service.contract.decoding import DECODE_ERRORS, decode_json
from service.contract.errors import InvalidInputError, WrongFileError
from service.contract.problem import Problem
from service.contract.settings import Settings
from service.contract.task import InputKind, Objective, Task, pair_named
from service.logs.output import print_json

_TASK = msgspec.json.Decoder(Task)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""A request of which only the parts that an option changes are touched; all else goes on as it was written."""

_ADDRESS = re.compile(r"https?://[^/\s]\S*", re.IGNORECASE)

_FILE = click.Path(dir_okay=False)
_REQUEST_FILE = click.Path(dir_okay=False, allow_dash=True)
_OF_TASK = (
    "name",
    "task_id",
    "agent_type",
    "model",
    "effort",
    "kind",
    "objective",
    "value_usd",
    "delay_usd_per_hour",
    "deadline_ms",
    "strict",
    "explain",
)
_OF_REQUIRE = ("agent_types", "inputs", "context_tokens", "local_only", "max_cost_usd")


def _finite(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """JSON has no word for the others, and would carry none at all."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("expected a finite number.")
    return value


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """An empty one is a variable that was not set, and no wish to decide here."""
    if value is not None and not _ADDRESS.fullmatch(value):
        raise click.BadParameter("expected an address such as http://127.0.0.1:8080.")
    return value


# An option for every field of a request; the objects `fleet` and `attempts` come with `--request`.
@click.command("classify", cls=Command)
@click.argument("text", required=False)
@click.option("--file", "file", type=_FILE, help="Read the instructions from a file.")
@click.option("--request", "request_file", type=_REQUEST_FILE, help="A whole JSON request; options win over it.")
@click.option("--name", help="The task's title.")
@click.option("--task-id", help="The scheduler's own id.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A fact, such as repo=django.")
@click.option("--agent-type", help="The agent that is asked for.")
@click.option("--model", help="The model that is asked for; needs --agent-type.")
@click.option("--effort", help="The reasoning effort that is asked for; needs --model.")
@click.option("--kind", help="What kind of work it is, an id of the catalog's kinds.")
@click.option("--objective", type=click.Choice(get_args(Objective)), help="How much a solved task is worth.")
@click.option("--value-usd", type=float, callback=_finite, help="The same, exactly, in dollars.")
@click.option("--delay-usd-per-hour", type=float, callback=_finite, help="What an hour of waiting costs, in dollars.")
@click.option("--deadline-ms", type=int, help="Answer within this time.")
@click.option("--strict", is_flag=True, default=None, help="Fail rather than ask another classifier.")
@click.option("--explain", is_flag=True, default=None, help="Add prompt, reply, abilities and difficulty.")
@click.option("--only-agent-type", "agent_types", multiple=True, help="require.agent_types.")
@click.option("--exclude", multiple=True, metavar="AGENT[/MODEL[@EFFORT]]", help="require.exclude.")
@click.option("--input", "inputs", multiple=True, type=click.Choice(get_args(InputKind)), help="require.inputs.")
@click.option("--context-tokens", type=int, help="require.context_tokens.")
@click.option("--local-only", is_flag=True, default=None, help="require.local_only.")
@click.option("--max-cost-usd", type=float, callback=_finite, help="require.max_cost_usd.")
@click.option("--server", callback=_address, help="Ask a running service at this URL instead of deciding here.")
@config_option
@json_option
def command(config: str | None, server: str | None, *, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - the fields of a request
    """Decide which agent and model should handle a task. TEXT is the instructions; `-` reads them from stdin."""
    settings = settings_of(config)
    body, from_file = _request(given)
    try:
        task = decode_json(body, _TASK)
    except InvalidInputError as error:
        # What is no text at all has no path, and an option is always text.
        if given["request_file"] and (error.path == "$" or _first_step(error.path) in from_file):
            raise WrongFileError(error.expected, path=error.path, source=given["request_file"]) from None
        raise
    decision = _ask(server, body, settings, task) if server else asyncio.run(_decide(settings, task))
    if isinstance(decision, Problem):
        end_with(decision, as_json=as_json)
    if as_json:
        print_json(decision)
    else:
        # rich, and with it all that prints tables and colours, only where they are printed
        from service.commands.show import show_decision

        show_decision(decision, task)


async def _decide(settings: Settings, task: Task) -> Decision:
    async with running_core(settings) as core:
        return await core.decide(task)


def _first_step(path: str) -> str:
    """The field of a request in which something is wrong."""
    return re.split(r"[.\[]", path.removeprefix("$."), maxsplit=1)[0]


def _request(given: dict[str, Any]) -> tuple[bytes, frozenset[str]]:
    """The JSON request that file and options make together, and which of its fields are as the file has them."""
    file = given["request_file"]
    fields: dict[str, Any] = {}
    if file is not None:
        fields = decode_file(file, _FIELDS)
    of_file = dict(fields)
    instructions = read_instructions(given["text"], given["file"])
    if instructions is not None:
        fields["instructions"] = instructions
    elif "instructions" not in fields:
        raise click.UsageError("Say what is to be done: TEXT, `-` for stdin, --file or --request.")
    fields |= _told(given, _OF_TASK)
    _merge(fields, "labels", dict(_pair(label) for label in given["labels"]))
    require = _told(given, _OF_REQUIRE)
    if given["exclude"]:
        require["exclude"] = [pair_named(name) for name in given["exclude"]]
    _merge(fields, "require", require)
    unchanged = frozenset(name for name, value in fields.items() if value is of_file.get(name))
    try:
        return msgspec.json.encode(fields), unchanged
    except UnicodeError:
        raise InvalidInputError("expected UTF-8 text") from None


def _told(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if given[name] not in (None, ())}


def _merge(fields: dict[str, Any], name: str, changes: dict[str, Any]) -> None:
    """Puts `changes` over the object called `name`; where the request has something else there, it is left to be
    refused."""
    if not changes:
        return
    try:
        there = _FIELDS.decode(fields[name]) if name in fields else {}
    except msgspec.ValidationError:
        return
    fields[name] = {**there, **changes}


def _pair(label: str) -> tuple[str, str]:
    key, equals, value = label.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--label {label!r}: expected KEY=VALUE.")
    return key, value


def _ask(server: str, body: bytes, settings: Settings, task: Task) -> Decision | Problem:
    """Asks a running service; it has the deadline and a little more to answer."""
    headers = {"Content-Type": "application/json"}
    if settings.server.token:
        headers["Authorization"] = f"Bearer {settings.server.token}"
    seconds = (task.deadline_ms or settings.decision.deadline_ms) / 1000 + 5
    try:
        response = httpx.post(f"{server.rstrip('/')}/v1/classify", content=body, headers=headers, timeout=seconds)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return _bad_gateway(f"{server}: {str(error) or type(error).__name__}")
    try:
        if response.is_success:
            return msgspec.json.decode(response.content, type=Decision)
        return msgspec.json.decode(response.content, type=Problem)
    except DECODE_ERRORS:
        return _bad_gateway(f"{server} answered {response.status_code}, but not as Pointsman does")


def _bad_gateway(detail: str) -> Problem:
    """Of no type of the service's own, because it is not the service that speaks (RFC 9457, section 4.2.1)."""
    return Problem(type="about:blank", title="Bad Gateway", status=502, detail=one_line(detail, 500))
