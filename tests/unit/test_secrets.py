"""Secrets are taken out of what a person may see, and what is left is one short line."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.base.secrets import masked, masked_line, secrets_in


@given(st.text(max_size=2000))
def test_a_masked_line_is_one_short_line_without_control_characters(text: str) -> None:
    """At most 500 characters; no control, format, surrogate or private-use character is left."""
    cleaned = masked_line(text, 500)
    assert len(cleaned) <= 500
    assert not any(unicodedata.category(char).startswith("C") for char in cleaned)


@given(st.text(max_size=600), st.text(max_size=600), st.sampled_from(["sk-abc/def", "k" * 40]))
def test_a_secret_is_never_shown(before: str, after: str, secret: str) -> None:
    """Whatever stands around it, the key is taken out."""
    cleaned = masked_line(before + secret + after, 500, [secret])
    assert secret not in cleaned


def test_no_part_of_a_secret_is_left_where_the_text_is_cut() -> None:
    """The key is taken out before the text is cut, wherever the cut falls."""
    for length in range(470, 501):
        cleaned = masked_line("x" * length + "sk-abcdefghij" * 3, 500, ["sk-abcdefghij"])
        assert not {"s", "k"} & set(cleaned)


def test_a_secret_is_found_behind_escapes_and_control_characters() -> None:
    """Escaped slashes and zero-width characters inside the echoed key do not save it."""
    assert masked_line("key sk\\/1 x", 500, ["sk/1"]) == "key *** x"
    assert masked_line("key s\u200bk-1 x", 500, ["sk-1"]) == "key *** x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("by http://user:pass1@proxy:3128/x", "by http://***@proxy:3128/x", id="password-in-a-url"),
        pytest.param("at http://host:80/a@b", "at http://host:80/a@b", id="no-password"),
        pytest.param("longer-key key", "*** ***", id="one-inside-another"),
    ],
)
def test_what_is_secret_and_what_is_not(text: str, shown: str) -> None:
    """A URL loses user and password, the longer of two keys is taken out whole."""
    assert masked(text, ["longer-key", "key"]) == shown


def test_variables_are_secret_by_their_names() -> None:
    """Keys, tokens, passwords; neither counts of tokens nor what is too short to be masked."""
    environ = {
        "A_API_KEY": "k" * 8,
        "B_TOKEN": "t" * 9,
        "MAX_TOKENS": "40960",
        "C_PASSWORD": "12345",
        "PATH": "/usr/bin",
    }
    assert secrets_in(environ) == ("t" * 9, "k" * 8)
