"""The words of a text by which kinds of work are told apart, in any script, in bounded time."""

import re
from itertools import pairwise

READ = 1_500
"""Characters of the instructions that are read: what a text asks for stands at its beginning. Tracebacks and code that
follow say little, and time is bounded by it."""

OPENING = 150
OPENING_WEIGHT = 3.0
"""Words of title and first sentence count threefold. Out of 1 to 5 times, and 100 to 250 characters, this took real
issues and requests for tests about the same issues apart best: 0.94 right instead of 0.79 (tests/load/kind_fit.py)."""

STEM = 4
"""A longer word counts as itself and as its first four letters, so that tests, tested and testing share something.
Truncation serves most European languages about as well as a stemmer of their own (McNamee and Mayfield 2004)."""

_UNSPACED_READ = 300
"""Characters that are read of a text in a script without spaces between words: each says more, and each pair of
neighbours counts as a word."""

_ONLY_LETTERS = bytes(c + 32 if 65 <= c <= 90 else c if 97 <= c <= 122 else 32 for c in range(128)) + bytes(128)
_WORDS = re.compile(r"[^\W\d_]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
_FIRST_UNSPACED = "\u0e00"

_PUT_ASIDE = (
    "do not ",
    "don't ",
    "don’t ",
    "no need to ",
    "without ",
    "instead of ",
    "rather than ",
    "no ",
    "keine ",
    "ohne ",
    "sans ",
    "never mind ",
    "pas de ",
    "ne pas ",
    "n'écris pas ",
    "não escreva ",
    "sem ",
    "sin ",
    "без ",
    "не пиши ",
)
"""What follows these is what is not asked for: "do not write tests" is no request for tests."""
_PUT_ASIDE_END = re.compile(r"[.,;:!?\n]|\b(?:but|just|only)\b")
_PUT_ASIDE_WORDS = 4

_NEEDLESS = (" not needed", "n't needed", " not necessary", " not required", " nicht nötig", " не нужны")
_CLAUSE_ENDS = ".,;:!?\n"
_NEEDLESS_READ = 40
"""What stands before these in their clause, at most so many characters of it, is not asked for either."""

ASKS, SHOWS = "?", "<image>"
"""Two signs that are no words: a short text with a question mark; a text with a picture."""
_SHORT = 400
_PICTURES = ("![", "<img", ".png", ".jpg", ".gif")


def words_of(name: str, instructions: str) -> dict[str, float]:
    """The distinct words of a task's title and text, each with its weight: OPENING_WEIGHT in the opening, else 1."""
    text = f"{name}\n{instructions[:READ]}" if name else instructions[:READ]
    if not text.isascii() and _UNSPACED.search(text[:OPENING]):
        text = text[:_UNSPACED_READ]
    text = text.lower()
    asked = _without_needless(_without_negated(text))
    found = dict.fromkeys(_words(asked[OPENING:]), 1.0) if len(asked) > OPENING else {}
    found.update(dict.fromkeys(_words(asked[:OPENING]), OPENING_WEIGHT))
    if len(text) < _SHORT and ("?" in text or "？" in text):
        found[ASKS] = OPENING_WEIGHT
    if any(map(text.__contains__, _PICTURES)):
        found[SHOWS] = OPENING_WEIGHT
    return found


def stems_of(word: str) -> tuple[str, ...]:
    """What a word counts as: itself, and `abcd*` where it is longer than four letters of an alphabet."""
    return (word, f"{word[:STEM]}*") if len(word) > STEM else (word,)


def _words(text: str) -> list[str]:
    if text.isascii():
        return text.encode().translate(_ONLY_LETTERS).decode().split()
    found: list[str] = []
    for word in _WORDS.findall(text):
        if word[0] < _FIRST_UNSPACED or not _UNSPACED.match(word[0]):
            found.append(word)
        else:
            found.extend(map("".join, pairwise(word)))
    return found


def _without_negated(text: str) -> str:
    for sign in _PUT_ASIDE:
        if sign in text:
            text = _without_clauses(text, sign)
    return text


def _without_clauses(text: str, sign: str) -> str:
    start = text.find(sign)
    while start >= 0:
        after = start + len(sign)
        if start == 0 or not text[start - 1].isalpha():
            text = f"{text[:start]}{_after_negated(text[after : after + 80])}{text[after + 80 :]}"
            after = start
        start = text.find(sign, after)
    return text


def _without_needless(text: str) -> str:
    for sign in _NEEDLESS:
        at = text.find(sign)
        while at >= 0:
            start = max(at - _NEEDLESS_READ, *(text.rfind(end, 0, at) + 1 for end in _CLAUSE_ENDS))
            text = f"{text[:start]} {text[at + len(sign) :]}"
            at = text.find(sign, start)
    return text


def _after_negated(text: str) -> str:
    """What is left once up to four words, or what comes before the clause ends, are taken away."""
    end = _PUT_ASIDE_END.search(text)
    clause = text[: end.start()] if end else text
    rest = text[len(clause) :]
    kept = clause.split(" ", _PUT_ASIDE_WORDS)[_PUT_ASIDE_WORDS:]
    return f" {' '.join(kept)}{rest}"
