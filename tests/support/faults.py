"""Every fault that the service must survive, by name: of a model server, and of a program that classifies."""

import json
import random
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path

from tests.support.fake_behaviours import (
    answer,
    completion,
    cut,
    drop_when_reused,
    endless,
    hang,
    hang_after_headers,
    huge,
    prose,
    raw,
    reset,
    status,
    trickle,
    trickle_forever,
    verdict,
)
from tests.support.fake_exchange import Behaviour, Exchange, head

GOOD = ("claude", "haiku")
"""The pair that a healthy classifier names here; it is in the small catalog of `http_fixtures`."""

HALF = head(200, {"Content-Type": "application/json", "Content-Length": "100"}) + b'{"choices": ['
_GOOD_JSON = json.dumps(
    {"agent_type": GOOD[0], "model": GOOD[1], "minutes": 30, "confidence": 0.8, "reason": "It fits the task."}
)


def good() -> Behaviour:
    """A verdict as it should be."""
    return verdict(*GOOD)


def _list_of_one() -> Behaviour:
    return answer(f"[{_GOOD_JSON}]")


HANGS: Mapping[str, Behaviour] = {
    "never-answers": hang(),
    "headers-then-hangs": hang_after_headers(),
    "half-a-body-then-hangs": hang(HALF),
    "a-byte-a-second": trickle(pause=1.0),
    "header-lines-without-end": trickle_forever(pause=0.05),
    "102-without-end": trickle_forever(pause=0.01, informational=True),
}
"""What takes all the time there is."""

BREAKS: Mapping[str, Behaviour] = {
    "reset": reset(),
    "reset-in-the-middle": reset(HALF),
    "closes-in-the-middle": cut(HALF),
    "endless-body": endless(),
    "1-gib": huge(),
    "not-json": raw(b"<html>"),
    "invalid-utf8": raw(b'{"choices":[{"message":{"content":"\xff"}}]}'),
    "deep-nesting": raw(b'{"usage":' + b"[" * 500_000),
    "a-mib-of-brackets": answer("[{" * 500_000),
    "empty-choices": raw(b'{"choices":[]}'),
    "400": status(400),
    "401": status(401),
    "404": status(404),
    "500": status(500),
    "drops-when-reused": drop_when_reused(answer(None)),
}
"""What ends at once, and is the server's fault."""

PROBLEMS: Mapping[str, str] = {
    **dict.fromkeys(HANGS, "timeout"),
    "reset": "connection-broken",
    "reset-in-the-middle": "connection-broken",
    "closes-in-the-middle": "connection-broken",
    "endless-body": "too-large",
    "1-gib": "too-large",
    "not-json": "not-json",
    "deep-nesting": "too-deep",
    "400": "http-400",
    "401": "http-401",
    "404": "http-404",
    "500": "http-500",
}
"""What a decision calls those that are the same whatever is asked. The others of BREAKS are bodies of a chat."""

USELESS: Mapping[str, Behaviour] = {
    "prose": prose(),
    "truncated": answer(_GOOD_JSON[:40], finish_reason="length"),
    "only-thoughts": answer(f"<think>{_GOOD_JSON}"),
    "wrong-types": answer({"agent_type": 7, "model": ["haiku"]}),
    "unknown-candidate": verdict("nobody", "nothing"),
    "ineligible-candidate": verdict("claude", "opus"),
    "two-verdicts": answer(_GOOD_JSON + '{"agent_type": "gemini", "model": "flash"}'),
}
"""A well-formed answer of no use. `ineligible-candidate` is one where the request rules claude/opus out."""

WRAPPED: Mapping[str, Behaviour] = {
    "fenced": answer(f"```json\n{_GOOD_JSON}\n```"),
    "after-thoughts": answer(f"<think>hm, perhaps opus</think>\n{_GOOD_JSON}"),
    "in-a-list": _list_of_one(),
    "in-prose": answer(f"Sure! Here it is:\n{_GOOD_JSON}\nHope that helps."),
}
"""Right answers in unusual clothes, which count as good ones."""


def waits() -> Mapping[str, Behaviour]:
    """429 and 503 with each form of Retry-After."""
    forms = {
        "seconds": "2",
        "date": formatdate(time.time() + 3, usegmt=True),
        "past-date": "Wed, 21 Oct 2015 07:28:00 GMT",
        "nan": "NaN",
        "a-year": "31536000",
    }
    return {
        f"{code}-{name}": status(code, headers={"Retry-After": value})
        for code in (429, 503)
        for name, value in forms.items()
    }


def endpoint_faults() -> dict[str, Behaviour]:
    """All of them that a server which listens can show."""
    return {**HANGS, **BREAKS, **USELESS, **waits()}


def mixture(seed: int, healthy: float) -> Callable[[object], Behaviour]:
    """For `FakeEndpoint.choose`: a healthy answer with that chance, else any fault, each as likely as the others.

    But for 429 and 503: together they are as one, because each may silence the asker for seconds.
    """
    source = random.Random(seed)
    faults = [*HANGS.values(), *BREAKS.values(), *USELESS.values(), *WRAPPED.values()]
    asks_to_wait = list(waits().values())

    def choose(_request: object) -> Behaviour:
        if source.random() < healthy:
            return good()
        chosen = source.randrange(len(faults) + 1)
        return faults[chosen] if chosen < len(faults) else source.choice(asks_to_wait)

    return choose


async def slow_good(exchange: Exchange) -> None:
    """A healthy answer of a few milliseconds, built anew."""
    await exchange.respond(200, json.dumps(completion(_GOOD_JSON)).encode())


_SCRIPTS: Mapping[str, str] = {
    "fails-without-json": "cat >/dev/null; echo sorry >&2; exit 3",
    "fails-with-valid-json": "cat >/dev/null; echo '{good}'; exit 1",
    "hangs": "cat >/dev/null; exec sleep 600",
    "grandchild-holds-the-pipes": "cat >/dev/null; sleep 600 & sleep 600 & wait",
    "ignores-sigterm": "trap '' TERM; cat >/dev/null; while :; do sleep 1; done",
    "endless-stdout": "cat >/dev/null; exec yes '{good}'",
    "endless-stderr": "cat >/dev/null; exec yes >&2",
    "closes-stdin-at-once": "exec <&-; exit 0",
    "10-mb-then-json": "cat >/dev/null; head -c 10000000 /dev/zero | tr '\\0' x; echo '{good}'",
    "invalid-utf8": "cat >/dev/null; printf '\\377\\376{good}'",
    "killed-by-a-signal": "cat >/dev/null; kill -9 $$",
    "writes-after-exit": "cat >/dev/null; (sleep 0.6; echo '{good}') & exit 0",
    "says-nothing": "cat >/dev/null",
}
_GOOD_SCRIPT = "cat >/dev/null; echo '{good}'"


def program_faults(folder: Path) -> dict[str, Sequence[str]]:
    """Commands for `cli.command`, each with a fault of its own; `good` among them is healthy. Needs only a shell."""
    commands: dict[str, Sequence[str]] = {
        "missing": [str(folder / "no-such-program")],
        "not-executable": [str(_script(folder, "not-executable", "exit 0", executable=False))],
    }
    for name, text in {**_SCRIPTS, "good": _GOOD_SCRIPT}.items():
        commands[name] = [str(_script(folder, name, text.replace("{good}", _GOOD_JSON)))]
    return commands


def mixed_program(folder: Path) -> Sequence[str]:
    """A command that shows another fault each time it is started, or none, by the clock's last digits."""
    names = ["good", "good", *_SCRIPTS]
    program_faults(folder)
    cases = "\n".join(f"{index}) exec {folder / name}.sh ;;" for index, name in enumerate(names))
    text = f"n=$(date +%N | sed 's/^0*//'); case $(( ${{n:-0}} / 1000 % {len(names)} )) in\n{cases}\nesac"
    return [str(_script(folder, "mixed", text))]


def _script(folder: Path, name: str, text: str, *, executable: bool = True) -> Path:
    file = folder / f"{name}.sh"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(stat.S_IRWXU if executable else stat.S_IRUSR | stat.S_IWUSR)
    return file
