"""Text from outside made fit for people and prompts."""

import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.base.text import clip_middle, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("\x1b[31mred\x1b[0m", "red", id="colour"),
        pytest.param("\x1b]0;title\x07after", "after", id="window-title"),
        pytest.param("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link", id="hyperlink"),
        pytest.param("\x1b", "", id="lone-escape"),
        pytest.param("a\x1b[12;", "a[12;", id="unfinished"),
        pytest.param("a\r\nb\tc\u2028d", "a b c d", id="line-breaks"),
        pytest.param("a\u202eb\u2066c\u200bd\ufeff", "abcd", id="bidirectional-and-zero-width"),
        pytest.param("a\x00b\x07", "ab", id="controls"),
        pytest.param("a\ud800b", "ab", id="lone-surrogate"),
        pytest.param("a\U000e0041\U000e0042b", "ab", id="tag-characters"),
        pytest.param("a\ufe01\U000e0101b", "ab", id="variation-selectors"),
        pytest.param("a\u3164b\u2800c", "abc", id="fillers"),
        pytest.param("ü 漢字 😀", "ü 漢字 😀", id="plain-unicode"),
    ],
)
def test_one_line_shows_only_what_a_person_sees(text: str, shown: str) -> None:
    """Escape sequences, controls and invisible characters go; letters of every script stay."""
    assert one_line(text, 100) == shown


@given(st.text(), st.integers(1, 80))
def test_one_line_is_bounded_and_clean(text: str, limit: int) -> None:
    """Whatever comes in, one line of at most `limit` characters without any control or format character comes out."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in line)


@given(st.text())
def test_visible_keeps_newlines_and_tabs_only(text: str) -> None:
    """A model is shown no control but newline and tab, and what is clean already does not change again."""
    clean = visible(text)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in clean if c not in "\n\t")
    assert visible(clean) == clean


def test_visible_keeps_words_apart_at_every_line_break() -> None:
    """A line break of any kind becomes a newline, so that two words never become one."""
    assert visible("a\r\nb\rc\u2028d\x85e\x0bf\n") == "a\nb\nc\nd\ne\nf\n"


@given(st.text(), st.integers(0, 50))
def test_clip_keeps_head_and_tail_and_counts_the_rest(text: str, limit: int) -> None:
    """Head and tail of a long text stay, `limit` characters in all, and the number left out is told."""
    clipped, left_out = clip_middle(text, limit)
    assert left_out == max(0, len(text) - limit)
    if left_out:
        head, tail = limit - limit // 3, limit // 3
        assert clipped == f"{text[:head]}\n[… {left_out} characters left out …]\n{text[len(text) - tail :]}"
    else:
        assert clipped == text


def _line(text: str) -> str:
    return one_line(text, len(text))


def _clipped(text: str) -> tuple[str, int]:
    return clip_middle(text, 99)


@pytest.mark.parametrize("work", [_line, visible, _clipped])
@pytest.mark.parametrize("unit", ["\x1b[", "\x1b]", "\x1b[0", " \t", "\u200b", "a\u0301", "\x1b[" + "0 " * 20])
def test_time_grows_linearly(work: Callable[[str], object], unit: str) -> None:
    """Sixteen times the text takes at most some 64 times as long: catches an expression that backtracks."""

    def seconds(text: str) -> float:
        times: list[float] = []
        for _ in range(5):
            started = time.process_time()
            work(text)
            times.append(time.process_time() - started)
        return min(times)

    short, long = unit * (8_000 // len(unit)), unit * (128_000 // len(unit))
    assert seconds(long) < 64 * max(seconds(short), 1e-4)
