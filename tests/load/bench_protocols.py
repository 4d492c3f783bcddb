"""Time and tokens of a decision by protocol, with real llama.cpp servers.

    python -m tests.load.bench_protocols [--short] [--rounds N]

One server has the small model as it is (chat, labels), the other the same model as a decision model (systemone); one
slot and one thread each. Cold: nothing of the prompt is in the server's cache. Warm: its fixed part is. Short tasks
are one sentence, long ones an issue of some 6,000 characters. `beside the model` is what the service itself takes for
a decision, by its own `timings_ms`.
"""

import asyncio
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from service.contract.settings import ProtocolName, Settings
from service.contract.task import Task
from service.core import Core
from tests.load.support import Report, arguments, parsed
from tests.support.decision_model import make_decision_model
from tests.support.llama_server import LlamaServer, missing, model_file

PROTOCOLS: tuple[ProtocolName, ...] = ("chat", "labels", "systemone")
WARM_UP: dict[ProtocolName, range] = {"chat": range(100, 101), "labels": range(100, 106), "systemone": range(0)}
"""Tasks before what is measured warm: with `labels` there are three fixed parts to be met; `systemone` has none."""

SHORT = "Fix the typo 'recieve' in the README, number {}."
LONG = (
    "Issue {}. The export of large reports fails now and then with a time-out, and the job is then started twice. "
    + "The trace ends in the scheduler's lease: it is renewed by the worker that holds it, but not while it compresses "
    "the file. Expected: one export, however long it takes. Seen since the move to the new queue. " * 20
)


@dataclass(slots=True)
class Found:
    """Milliseconds and tokens, decision by decision."""

    total: list[float] = field(default_factory=list[float])
    model: list[float] = field(default_factory=list[float])
    own: list[float] = field(default_factory=list[float])
    tokens_in: list[float] = field(default_factory=list[float])
    tokens_out: list[float] = field(default_factory=list[float])
    useless: int = 0


def settings_for(server: LlamaServer, protocol: ProtocolName, *, warm: bool) -> Settings:
    """A service that asks that server so."""
    tree: dict[str, Any] = {
        "local_model": {
            "endpoint": server.endpoint,
            "model": server.model,
            "protocol": protocol,
            "timeout_seconds": 120.0,
            "response_format": "json_schema",  # else this small model has no shape to compare
            "default_temperature": 0.0,
            "max_tokens": 128,
            "extra_body": {} if warm else {"cache_prompt": False},
        },
        "cli": {"preset": ""},
        "store": {"url": "sqlite://"},
        "decision": {"deadline_ms": 240_000, "cache_seconds": 0},
    }
    return msgspec.convert(tree, Settings)


async def measure(core: Core, text: str, numbers: range, found: Found) -> None:
    """One decision after the other about tasks of that kind."""
    for number in numbers:
        begun = time.perf_counter()
        decision = await core.decide(Task(instructions=text.format(number)))
        taken = (time.perf_counter() - begun) * 1000
        if decision.source != "local_model":
            found.useless += 1
            continue
        found.total.append(taken)
        found.model.append(decision.timings_ms["local_model"])
        found.own.append(decision.timings_ms["total"] - decision.timings_ms["local_model"])
        found.tokens_in.append(decision.usage.tokens_in)
        found.tokens_out.append(decision.usage.tokens_out)


async def by_protocol(
    servers: dict[ProtocolName, LlamaServer], rounds: int
) -> dict[tuple[ProtocolName, str, str], Found]:
    """Each protocol in turn, each with both texts, cold and warm."""
    result: dict[tuple[ProtocolName, str, str], Found] = {}
    for protocol in PROTOCOLS:
        for warm in (False, True):
            core = Core(settings_for(servers[protocol], protocol, warm=warm), environ={})
            await core.start()
            try:
                if warm:
                    await measure(core, SHORT, WARM_UP[protocol], Found())
                for name, text in (("short", SHORT), ("long", LONG)):
                    found = result[protocol, "warm" if warm else "cold", name] = Found()
                    await measure(core, text, range(rounds), found)
            finally:
                await core.aclose()
    return result


def main() -> None:
    """The command."""
    given = parsed(arguments(__doc__ or "", rounds=12, short_rounds=3))
    plain = model_file()
    if (why := missing()) is not None or plain is None:
        raise SystemExit(why)
    report = Report("protocols", given)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.environ.setdefault("HOME", folder)
        deciding = make_decision_model(plain, Path(folder) / "decides.gguf")
        usual = stack.enter_context(LlamaServer(slots=1))
        decides = stack.enter_context(LlamaServer(slots=1, model=deciding))
        servers: dict[ProtocolName, LlamaServer] = {"chat": usual, "labels": usual, "systemone": decides}
        result = asyncio.run(by_protocol(servers, given.rounds))
    report.say(f"milliseconds and tokens a decision, median (lowest to highest) of {given.rounds}")
    for (protocol, state, name), found in result.items():
        report.say(f"  {protocol}, {state}, {name} tasks" + (f", {found.useless} useless" if found.useless else ""))
        if not found.total:
            continue
        for what, values in (
            ("whole decision, ms", found.total),
            ("beside the model, ms", found.own),
            ("tokens in", found.tokens_in),
            ("tokens out", found.tokens_out),
        ):
            report.say(f"    {what:24} {report.figure(f'{protocol}, {state}, {name}, {what}', values)}")
    report.end()


if __name__ == "__main__":
    main()
