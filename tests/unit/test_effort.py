"""Minutes from a task's text."""

import re
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.forecast import effort
from service.forecast.effort import HEAD, SPREAD, TAIL, WEIGHTS, estimate_minutes, features


def test_a_typo_is_not_a_rewrite() -> None:
    """Plainly trivial work is estimated far below plainly large work."""
    small = estimate_minutes("", "fix a typo in README").minutes
    large = estimate_minutes("", "rewrite the scheduler").minutes
    whole = estimate_minutes(
        "", "Redesign and rewrite the scheduler from scratch as a distributed, fault-tolerant platform"
    )
    assert small < 10 < 30 < large < whole.minutes


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        ("What is a mutex?", "Implement a mutex"),
        ("Bump the version number", "Migrate every service to the new platform"),
        ("Rename tmp to total", "Find the race condition that shows under load"),
        ("Hello!", "Add pagination, sorting and filtering to the orders endpoint, with tests"),
    ],
    ids=["question", "bump", "rename", "greeting"],
)
def test_order_of_plain_cases(shorter: str, longer: str) -> None:
    """Cases that every reader would order the same way are ordered that way."""
    assert estimate_minutes("", shorter).minutes < estimate_minutes("", longer).minutes


def test_name_counts_like_the_text() -> None:
    """A word in the title says as much as one in the instructions."""
    assert features("Rewrite the scheduler", "see above")["large"] == 1
    assert estimate_minutes("Rewrite it", "x").minutes > estimate_minutes("", "x").minutes


def test_every_feature_has_a_weight() -> None:
    """What is counted and what is weighed are the same, in the same order as the fit prints them."""
    assert list(features("", "x")) == list(WEIGHTS)


@pytest.mark.parametrize(
    "text",
    ["x", " ", "a, and " * 28_000, "(" * 200_000, "\ud800" * 1000, "rewrite " * 25_000, "\n- " * 60_000, "İ" * 200_000],
    ids=["one", "blank", "commas", "brackets", "surrogates", "repeated", "items", "grows-in-lower-case"],
)
def test_any_text_has_bounded_minutes_and_time(text: str) -> None:
    """Hostile text of the greatest length takes milliseconds and gives 1 to 960 minutes; only the ends are read."""
    begin = time.process_time()
    effort = estimate_minutes("t" * 300, text)
    assert time.process_time() - begin < 2
    assert 1 <= effort.minutes <= 960
    assert effort.clipped is (len(text) > HEAD + TAIL)


def test_words_that_repeat_count_once() -> None:
    """Saying the same word a hundred times does not make a task a hundred times larger."""
    assert features("", "migrate " * 100)["large"] == 1


def test_a_list_of_frightening_words_is_bounded() -> None:
    """A text made of every word that is counted says no more than one with a few of them."""
    words = "rewrite redesign rebuild migrate refactor port convert replace split monolith distributed platform"
    assert features("", words)["large"] == features("", " ".join(words.split()[:4]))["large"] == 4


def test_explanation_says_what_was_counted() -> None:
    """The explanation is plain JSON: minutes, spread, and the features that are not zero."""
    told = msgspec.json.decode(msgspec.json.encode(estimate_minutes("", "fix a typo in README").explain()))
    assert told["counted"]["small"] == 2
    assert "large" not in told["counted"]
    assert told["spread"] == SPREAD > 1


_PIECES = st.sampled_from(
    re.split(
        r"\|",
        "typo|typos|rename|wording|broken|link|version|number|rewrite|re-write|re-writing|pin|re-|from|scratch|whole|"
        "multi-tenant|end-to-end|race|condition|thread-safe|threadsafe|memory|leak|leaks|under|load|step|by|pros|and|"
        "cons|trade-off|tradeoffs|tests|deployment|implement|add|authenticated|misspelled|vulnerabilities|x| |\n|-|, |"
        f". |_|'|é|İ|ß|typo-|{'a' * 30}",
    )
)


@given(st.lists(st.tuples(_PIECES, st.sampled_from([" ", "", "-"])).map("".join), max_size=40))
def test_looking_words_up_finds_what_the_patterns_find(pieces: list[str]) -> None:
    """The quick way through a text counts just what each pattern finds in it: catches a phrase, a hyphen or a letter
    beyond ASCII that it takes for something else."""
    text = "".join(pieces).lower()
    expected = {
        kind: len({found.group() for found in pattern.finditer(text)}) for kind, pattern in effort._PATTERNS.items()
    }
    assert effort._distinct(text) == expected


@given(st.text(max_size=300))
def test_any_text_is_counted_as_the_patterns_do(text: str) -> None:
    """Likewise for any text at all."""
    expected = {
        kind: len({found.group() for found in pattern.finditer(text)}) for kind, pattern in effort._PATTERNS.items()
    }
    assert effort._distinct(text) == expected


def test_the_signs_of_compounds_are_whole() -> None:
    """Compounds are looked for only where a text has one of these words: each compound needs one."""
    for compounds in effort._COMPOUNDS.values():
        assert all(not effort._IN_COMPOUNDS.isdisjoint(compound) for compound in compounds)
