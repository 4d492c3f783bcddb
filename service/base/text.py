"""Text from outside made fit to be shown, logged or put into a prompt; each function takes linear time."""

import re
import unicodedata

_SPACE = re.compile(r"\s+")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])?")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Unicode categories that show nothing or change how their neighbours show: controls, bidirectional and zero-width
marks, surrogates, private and unassigned code points."""
_IGNORABLE = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0))
) | frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
"""Of other categories, and yet invisible: fillers and variation selectors (Unicode's Default_Ignorable_Code_Point), in
which whole messages can be hidden, and the empty Braille pattern."""

_ACTING = re.compile("[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""C1 controls (one of them begins an escape sequence), zero-width and bidirectional marks: JSON leaves them as they
are, and inside a JSON document they can only stand in strings."""


_SPECIAL = (
    ("<|", "< |"),
    ("|>", "| >"),
    ("<\uff5c", "< \uff5c"),
    ("\uff5c>", "\uff5c >"),
    ("<start_of_turn>", "< start_of_turn>"),
    ("<end_of_turn>", "< end_of_turn>"),
    ("[INST]", "[ INST]"),
    ("[/INST]", "[ /INST]"),
    ("<s>", "< s>"),
    ("</s>", "< /s>"),
)
"""How special tokens are written: ChatML and Llama 3, DeepSeek, Gemma, Mistral and Llama 2. A space makes them plain
text, and none can come of what is left, because nothing is ever taken out."""


def inert(document: bytes) -> bytes:
    """A JSON document of the same meaning, in which what would act on a terminal is written as `\\uXXXX`."""
    if document.isascii() and b"\x7f" not in document:
        return document
    return _ACTING.sub(lambda match: f"\\u{ord(match[0]):04x}", document.decode()).encode()


def one_line(text: str, limit: int) -> str:
    """One line of at most `limit` characters for a person: no escape sequences, control or invisible characters."""
    if len(text) > limit * 8:  # what is cut away need not be looked at
        text = text[: limit * 8]
    plain = _SPACE.sub(" ", _ESCAPE.sub("", text))
    line = _SPACE.sub(" ", plain.translate(_unseen(plain))).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def visible(text: str) -> str:
    """The text without what a reader would not see: what hides from a person shall not speak to a model.

    Line breaks of every kind become a newline; tabs stay.
    """
    text = "\n".join(text.splitlines()) + "\n" * text.endswith(("\n", "\r"))
    return text.translate(_unseen(text, kept="\n\t"))


def without_special_tokens(text: str) -> str:
    """The text without what model servers read as one special token, such as `<|im_end|>`, which ends a turn."""
    for mark, harmless in _SPECIAL:
        text = text.replace(mark, harmless)
    return text


def clip_middle(text: str, limit: int) -> tuple[str, int]:
    """At most about `limit` characters: two thirds from the head, one from the tail; and how many were left out."""
    if len(text) <= limit:
        return text, 0
    tail = limit // 3
    head = limit - tail
    left_out = len(text) - limit
    return f"{text[:head]}\n[… {left_out} characters left out …]\n{text[len(text) - tail :]}", left_out


def _unseen(text: str, *, kept: str = "") -> dict[int, None]:
    """What `str.translate` shall delete. A text has few distinct characters, and each is looked at once only."""
    return {
        ord(c): None for c in set(text) if c not in kept and (c in _IGNORABLE or unicodedata.category(c) in _HIDDEN)
    }
