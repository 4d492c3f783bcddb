"""Minutes from a task's text, where no classifier gave them: a transparent lexical estimate with a wide spread.

ln(minutes) = intercept + sum of weight × feature. Every feature is a bounded number that a reader can count in the
text, and every weight is fitted by tests/load/forecast_fit.py, which prints how little it is worth on real issues.
"""

import re
from itertools import islice
from math import exp, log
from typing import Any

import msgspec

HEAD = 6_000
TAIL = 2_000
"""Characters that are read: the first and the last so many of name and instructions, so that time is bounded."""

SPREAD = 1.1
"""Standard deviation of ln(minutes) around the estimate, on statements and issues it was not fitted to:
a factor of 3."""

INTERCEPT = 2.60
WEIGHTS = {
    "small": -0.48,
    "large": 0.94,
    "hard": 0.58,
    "build": 0.13,
    "reason": 0.09,
    "test": 0.18,
    "length": 0.01,
    "commas": 0.18,
    "asks": -1.07,
}
"""Logs of minutes for each unit of a feature, by ridge regression on 61 statements that span typo to compiler and on
231 issues with people's estimates (10-fold: area under the curve 0.59 for issues above 15 minutes, where LiteLLM's
rules have 0.60 and the mere length 0.62; 0.99 for the 29 prompts of LiteLLM's evaluation that are not SIMPLE, where
its rules, tuned on them, have 0.94). The prompts took no part in the fit, but they had been read before the word lists
were written, and the features were chosen out of some seventy variants with both scores in view: on texts nobody has
looked at, expect less."""

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{0,30}")
_PATTERNS: dict[str, re.Pattern[str]] = {
    "small": re.compile(
        r"\b(?:typos?|spelling|misspell\w{0,6}|wording|renam(?:e|es|ing)|bump|comments?|docstrings?|readme|changelog|"
        r"whitespace|lint|reformat|unused|copyright|broken link|label|version number|pin)\b"
    ),
    "large": re.compile(
        r"\b(?:re-?writ(?:e|es|ing)|re-?design|re-?build|re-?architect\w{0,8}|architecture|migrat(?:e|es|ing|ion)|"
        r"refactor\w{0,4}|port|convert|replace|split|monolith|microservices?|distributed|from scratch|platform|"
        r"compiler|multi-tenant|kubernetes|end-to-end|fault-tolerant|entire|whole|across|every|pipeline)\b"
    ),
    "hard": re.compile(
        r"\b(?:race condition|deadlock|concurren\w{1,4}|thread-?safe\w{0,4}|memory leak|leaks?|optimi[sz]\w{1,6}|"
        r"performance|throughput|scalab\w{1,6}|security|encrypt\w{0,4}|authenticat\w{1,4}|replication|protocol|"
        r"algorithm|schema|vulnerab\w{1,8}|under load)\b"
    ),
    "build": re.compile(r"\b(?:implement\w{0,4}|add|adds|create|build|design|write|support|develop|extend)\b"),
    "reason": re.compile(
        r"\b(?:step by step|think|reason\w{0,5}|analy[sz]e|evaluate|compare|pros and cons|trade-?offs?|explain|"
        r"recommend)\b"
    ),
    "test": re.compile(r"\b(?:tests?|benchmarks?|monitoring|deployment|documentation)\b"),
}
_ANY = re.compile("|".join(pattern.pattern for pattern in _PATTERNS.values()))
_COMPOUNDS: dict[str, tuple[frozenset[str], ...]] = {
    kind: tuple(frozenset(compound.split()) for compound in compounds)
    for kind, compounds in {
        "small": ("broken link", "version number"),
        "large": ("re", "from scratch", "multi tenant", "end to", "fault tolerant"),
        "hard": ("race condition", "thread", "memory leak", "under load"),
        "reason": ("step by", "pros and cons", "trade"),
    }.items()
}
"""Words that a text has where a pattern finds more than a single one in it. Without these its words are looked up one
by one, which takes a sixth of the time."""
_IN_COMPOUNDS = frozenset(
    {"broken", "version", "re", "scratch", "tenant", "end", "tolerant", "race", "thread", "leak", "load"}
    | {"step", "pros", "trade"}
)
"""A seldom word of each of them: most texts have none of these."""

_WORD_RUNS = re.compile(r"\w+")
_ONLY_WORDS = bytes(c if chr(c).isalnum() or chr(c) == "_" else 32 for c in range(128)) + bytes(128)
_LONGEST = 24
"""Characters; no pattern finds a longer single word."""

_LOG_MOST = log(960.0)
_CAPS = {"small": 2, "large": 4, "hard": 3, "build": 3, "reason": 3, "test": 2}
_ASKING = re.compile(
    r"\s*(?:what|who|when|where|which|why|how|is|are|does|do|can|hello|hi|hey|thanks|thank|yes|no|ok|say|define)\b"
)


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long an expert person might need. `spread` is the standard deviation of ln(minutes); wide on purpose.

    `features` says what was counted and `clipped` whether the middle of a long text was left out.
    """

    minutes: float
    spread: float
    features: dict[str, float]
    clipped: bool

    def explain(self) -> dict[str, Any]:
        """For a decision's explanation."""
        return {
            "minutes": round(self.minutes, 1),
            "spread": self.spread,
            "counted": {name: round(value, 2) for name, value in self.features.items() if value},
            "clipped": self.clipped,
        }


def estimate_minutes(name: str, instructions: str) -> Effort:
    """The estimate for a task's title and text, between 1 and 960 minutes; it takes the same time for any length.

    Two digits of it: more would say nothing, and tasks of the same estimate share a forecast.
    """
    counted = features(name, instructions)
    value = INTERCEPT + sum([WEIGHTS[feature] * amount for feature, amount in counted.items()])
    return Effort(
        minutes=float(f"{exp(min(max(value, 0.0), _LOG_MOST)):.2g}"),
        spread=SPREAD,
        features=counted,
        clipped=len(instructions) > HEAD + TAIL,
    )


def features(name: str, instructions: str) -> dict[str, float]:
    """What is counted, each bounded: words of six kinds, length, enumeration, whether it only asks."""
    read = instructions if len(instructions) <= HEAD + TAIL else f"{instructions[:HEAD]}\n{instructions[-TAIL:]}"
    text = (f"{name[:HEAD]}\n{read}" if name else read).lower()
    counted = {kind: float(min(number, _CAPS[kind])) for kind, number in _distinct(text).items()}
    counted["length"] = log(1.0 + len(text))
    counted["commas"] = float(min(text[:600].count(",") + text[:600].count(" and "), 8)) / 4
    counted["asks"] = float(_ASKING.match(text) is not None and _is_short(text))
    return counted


def _is_short(text: str) -> bool:
    """At most 40 words; the forty-first is the last one looked for."""
    return next(islice(_WORD.finditer(text), 40, None), None) is None


def _distinct(text: str) -> dict[str, int]:
    """How many different words or phrases of each kind the text holds."""
    found = dict.fromkeys(_PATTERNS, 0)
    words = _words(text)
    for kinds in filter(None, map(_KINDS.__getitem__, words)):
        for kind in kinds:
            found[kind] += 1
    if not _IN_COMPOUNDS.isdisjoint(words):
        for kind, compounds in _COMPOUNDS.items():
            if any(compound <= words for compound in compounds):
                found[kind] = len({match.group() for match in _PATTERNS[kind].finditer(text)})
    return found


def _words(text: str) -> set[str]:
    """Every run of letters, digits and underscores."""
    if text.isascii():
        return set(text.encode().translate(_ONLY_WORDS).decode().split())
    return set(_WORD_RUNS.findall(text))


class _Kinds(dict[str, tuple[str, ...]]):
    """The kinds of each single word. Most words of a language have none, and most texts use the same ones."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        if len(word) > _LONGEST:
            return ()
        if len(self) >= _KINDS_KEPT:
            self.clear()
        kinds: tuple[str, ...] = ()
        if _ANY.fullmatch(word):
            kinds = tuple([kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(word)])
        self[word] = kinds
        return kinds


_KINDS = _Kinds()
_KINDS_KEPT = 8192
