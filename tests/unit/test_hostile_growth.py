"""No input that a stranger controls takes more than linear time: each function over doublings of its worst inputs."""

import time
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.base.secrets import masked_line
from service.base.text import clip_middle, one_line, visible
from service.classifiers.envelope import CliEnvelopeError
from service.classifiers.programs import preset_of
from service.classifiers.prompt import Prompts
from service.classifiers.verdict import VerdictError, read_verdict
from service.contract.catalog import Catalog
from service.contract.decoding import decode_json
from service.contract.errors import InvalidInputError
from service.contract.task import Task
from service.forecast.effort import estimate_minutes
from service.llm.errors import LLMReplyError
from service.llm.wire import decode_chunk, decode_reply
from tests.support.builders import small_catalog

CATALOG: Catalog = small_catalog()
PROMPTS = Prompts(None, CATALOG)
TASK = msgspec.json.Decoder(Task)
SMALL, DOUBLINGS = 8_000, 4
FACTOR = 3.0
"""Beyond linear: sixteen times the text may take 48 times as long. Quadratic is 256 times."""
FLOOR_SECONDS = 2e-4
"""Below it a clock and its neighbours are all that is measured."""

MOST_SECONDS = 0.25
"""For 128,000 characters. Where a text is cut first, a parse that starts over is not seen to be quadratic: it is merely
far too slow. The slowest takes 0.01 s."""

UNITS = [
    "{", "[", '{"', '{"a":', "[{", "}", '"', "\\", '\\"', "```", "```json\n", "<think>", "</think>", "<think>{", "<",
    " ", "\n", "\t ", "\r", "\x1b[", "\x1b]", "\x1b[0;", "\u200b", "\U000e0041", "a\u0301", "a", "ab ", "-", "1", "1e",
    "http://", "://a:", "://" + "a:" * 60, "@",
    "a" * 31 + "'", "re-", "$", "${", "data: ", '{"type":"x"}\n', "0x", "é", "漢", "\ud83d",
]  # fmt: skip
"""What nests, opens without closing, backtracks, hides, or makes a tokenizer look back."""


def _quiet(call: Callable[[str], object]) -> Callable[[str], None]:
    def run(text: str) -> None:
        try:
            call(text)
        except (VerdictError, CliEnvelopeError, InvalidInputError, LLMReplyError):
            return

    return run


def _unwrapped(program: str) -> Callable[[str], object]:
    unwrap = preset_of(program).unwrap
    return lambda text: unwrap(text, "")


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")


CANDIDATES = CATALOG.candidates
WORK: dict[str, Callable[[str], None]] = {
    "read-verdict": _quiet(lambda text: read_verdict(text, CANDIDATES, CANDIDATES)),
    "decode-task": _quiet(lambda text: decode_json(_bytes(text), TASK)),
    "decode-task-string": _quiet(lambda text: decode_json(b'{"instructions":"' + _bytes(text), TASK)),
    "decode-task-keys": _quiet(lambda text: decode_json(b'{"fleet":{"' + _bytes(text) + b'":{"slots":"x"}}}', TASK)),
    "clip": _quiet(lambda text: clip_middle(text, 1000)),
    "one-line": _quiet(lambda text: one_line(text, len(text))),
    "visible": _quiet(visible),
    "effort": _quiet(lambda text: estimate_minutes(text, text)),
    "question": _quiet(lambda text: PROMPTS.question(Task(instructions=text or "x", name=text[:300]), CANDIDATES,
        value_usd=1.0, max_task_tokens=1_000_000, random_bytes=bytes)),
    "masked-line": _quiet(lambda text: masked_line(text, len(text), ["secret"])),
    "decode-reply": _quiet(lambda text: decode_reply(_bytes(text), model="m")),
    "decode-reply-usage": _quiet(lambda text: decode_reply(b'{"choices":[],"usage":' + _bytes(text), model="m")),
    "decode-chunk": _quiet(lambda text: decode_chunk(_bytes(text))),
    "unwrap-any": _quiet(_unwrapped("command")),
    "unwrap-claude": _quiet(_unwrapped("claude")),
    "unwrap-codex": _quiet(_unwrapped("codex")),
    "unwrap-gemini": _quiet(_unwrapped("gemini")),
}  # fmt: skip


def _seconds(work: Callable[[str], None], text: str) -> float:
    best = 1e9
    for _ in range(3):
        started = time.process_time()
        work(text)
        best = min(best, time.process_time() - started)
    return best


def _check(name: str, unit: str) -> None:
    work = WORK[name]
    small = max(_seconds(work, unit * (SMALL // len(unit))), FLOOR_SECONDS)
    large = _seconds(work, unit * (SMALL * 2**DOUBLINGS // len(unit)))
    assert large < small * 2**DOUBLINGS * FACTOR, f"{unit!r}: {small:.4f} s, then {large:.4f} s"
    assert large < MOST_SECONDS, f"{unit!r}: {large:.4f} s"


@pytest.mark.parametrize("name", WORK)
def test_time_grows_no_worse_than_linearly(name: str) -> None:
    """Sixteen times the worst text takes at most 48 times as long: would catch an expression that backtracks, a parse
    that starts over at each brace, a join in a loop."""
    for unit in UNITS:
        _check(name, unit)


@pytest.mark.parametrize("name", WORK)
@given(unit=st.lists(st.sampled_from(UNITS) | st.text(min_size=1, max_size=3), min_size=1, max_size=4).map("".join))
@settings(max_examples=12, deadline=None)
def test_no_mixture_grows_worse_than_linearly(name: str, unit: str) -> None:
    """Likewise for any mixture of them, and of whatever else: would catch what no single one brings on."""
    _check(name, unit)


@pytest.mark.parametrize("size", [10, 1000, 200_000])
def test_what_is_kept_of_a_text_is_bounded(size: int) -> None:
    """Prompt, reason and problem have a size of their own, whatever comes in: would catch one that grows."""
    text = "x" * size
    question = PROMPTS.question(
        Task(instructions=text, name=text[:300]), CANDIDATES, value_usd=1.0, max_task_tokens=500, random_bytes=bytes
    )
    assert len(question.user) < 500 * 4 + 2000
    assert len(one_line(text, 500)) <= 500
    reply = '{"agent_type": "alpha", "model": "big", "reason": "' + text[:60_000] + '"}'
    assert len(read_verdict(reply, CANDIDATES, CANDIDATES).reason) <= 500
    with pytest.raises(InvalidInputError) as caught:
        decode_json(_bytes('{"instructions":"x","objective":"' + text + '"}'), TASK)
    assert len(str(caught.value)) < 500
