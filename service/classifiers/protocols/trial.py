"""Each protocol tried on one question: which of them the server speaks, and how long each takes."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from service.classifiers.classifier import Brief, ClassifierError
from service.classifiers.prompt import QUESTIONS
from service.classifiers.protocols.asking import Asking, NotSpokenError
from service.classifiers.protocols.deciding import Deciding
from service.classifiers.protocols.questions import Questions
from service.contract.settings import ProtocolName
from service.llm.client import LLMClient
from service.llm.errors import LLMConnectionError, LLMError, LLMReplyError, LLMStatusError, LLMTimeoutError
from service.llm.wire import ChatMessage

FASTER_THAN_CHAT: tuple[ProtocolName, ...] = ("systemone", "decisions", "labels")
"""In the order in which they are tried: a decision model is made for nothing else."""

OPTIONS = (255, 128, 52, 26, 20, 10)
"""Limits that servers have."""

_BUSY = frozenset({"http-429", "timeout"})

_REFUSED = frozenset({400, 404, 405, 422, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`seconds` is how long an answer took once the server was warm; None where there was none, and `says` why."""

    protocol: ProtocolName
    seconds: float | None
    says: str = ""
    unreached: bool = False
    """Whether the server was not there at all, which says nothing about what it speaks."""
    busy: bool = False
    """Whether it said that it cannot answer now, or did not in time, which says as little: it may be loading."""


async def try_out(
    ways: Iterable[Asking],
    brief: Brief,
    *,
    timeout_seconds: float,
    until_one_works: bool = False,
    first: Callable[[ProtocolName], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Trial]:
    """Asks each way, and once more what a warm server takes, which is what counts; or only `until_one_works`. `first`
    is told of the first that works as soon as it does."""
    trials: list[Trial] = []
    for way in ways:
        trial = await _ask(way, brief, timeout_seconds, clock)
        if trial.seconds is not None and first is not None:
            first(trial.protocol)
            first = None
        if trial.seconds is not None and not until_one_works:
            other = msgspec.structs.replace(brief.task, name=f"{brief.task.name} again")
            again = await _ask(way, msgspec.structs.replace(brief, task=other), timeout_seconds, clock)
            # Replicas behind one endpoint may differ: what the second does not speak is not spoken.
            trial = trial if again.busy or again.unreached else again
        trials.append(trial)
        if trial.unreached or (until_one_works and trial.seconds is not None):
            break
    return trials


async def says_it_only_decides(client: LLMClient, *, timeout_seconds: float) -> bool | None:
    """Whether the server's list of models says that the model gives no text, as llama.cpp's does. None where it did not
    tell now: it was busy, loading or away."""
    try:
        return await client.only_decides(timeout_seconds)
    except (LLMConnectionError, LLMTimeoutError):
        return None
    except LLMStatusError as error:
        passing = error.status == 429 or (error.status >= 500 and error.status not in _REFUSED)
        return None if passing else False
    except LLMError:
        return False  # not every server has a list of models


async def only_decides(client: LLMClient, *, timeout_seconds: float) -> bool | None:
    """Whether a server that speaks a protocol of decision models has a model that gives no text.

    It says so itself, or refuses to chat. None where it did not tell: it was busy, or away.
    """
    if await says_it_only_decides(client, timeout_seconds=timeout_seconds):
        return True
    try:
        await client.chat([ChatMessage(role="user", content="Say yes.")], max_tokens=1, timeout_seconds=timeout_seconds)
    except LLMStatusError as error:
        return True if error.status in _REFUSED else None
    except LLMReplyError:
        return False  # a chat all the same: a model that thinks has said nothing yet after one token
    except LLMError:
        return None
    return False


async def most_options(way: Deciding, *, timeout_seconds: float) -> int:
    """How many options of one question the server takes, of the numbers that are in use; 0 where it takes none."""
    for count in OPTIONS:
        codes = tuple([f"c{number}" for number in range(1, count + 1)])
        says: dict[str, str] = dict.fromkeys(QUESTIONS, "Which?")
        questions = Questions(
            candidates=(), candidate_codes=codes, candidate_says=codes, kinds=(), kind_says=(), instructions=says,
            eligible=count, turn=0.0,
        )  # fmt: skip
        try:
            body = way.form.request("Fix a typo.", questions)
            way.form.answers(await way.client.post(way.form.path, body, timeout_seconds=timeout_seconds))
        except (LLMError, NotSpokenError):
            continue
        return count
    return 0


async def _ask(way: Asking, brief: Brief, timeout_seconds: float, clock: Callable[[], float]) -> Trial:
    started = clock()
    try:
        await way.ask(brief, timeout_seconds=timeout_seconds)
    except NotSpokenError as error:
        return Trial(protocol=way.name, seconds=None, says=f"not spoken here: {error}")
    except ClassifierError as error:
        unreached = error.problem.startswith("connection-") or error.problem in {"dns-failed", "tls-failed"}
        busy = error.problem in _BUSY or error.problem.startswith("http-5")
        return Trial(protocol=way.name, seconds=None, says=f"{error.problem}: {error}", unreached=unreached, busy=busy)
    return Trial(protocol=way.name, seconds=clock() - started)
