"""How long an expert might need, from a task's text: plainly tiny and plainly huge tasks are told by their words.

In between, where most tasks are, `forecast.effort` counts a few things and knows little. At the ends the same sum of
word weights that tells kinds (`kind_text`) says how surely a task is tiny (a typo, a constant, a comment) or huge (a
platform, an operating system, a rewrite of everything), and the minutes go there as far as it is sure.
"""

from collections.abc import Mapping
from functools import cache
from math import exp, log
from pathlib import Path

import msgspec

from service.classifiers.kind_text import KindText, read_words
from service.classifiers.kind_words import words_of
from service.contract.kind import Kind
from service.forecast.effort import Effort, estimate_minutes

SHIPPED = Path(__file__).with_name("size_words.json")

TINY, NORMAL, HUGE = "tiny", "normal", "huge"
SIZES = (Kind(id=TINY), Kind(id=NORMAL), Kind(id=HUGE))

TINY_MINUTES = 2.5
"""A person's minutes for a typo: the statements of three to five minutes that the estimate was fitted to."""

HUGE_MINUTES = 10_000.0
"""A working month: what is built from nothing by several people for longer makes no difference to an attempt."""

MIDDLE = (10.0, 240.0)
"""Minutes that the count of features alone may give: on real issues its extremes mean nothing."""


def estimate_size(name: str, instructions: str, words: Mapping[str, float] | None = None) -> Effort:
    """The estimate for a task's title and text, between TINY_MINUTES and HUGE_MINUTES, two digits of it.

    `words` are those of `words_of`, where they were already found.
    """
    counted = estimate_minutes(name, instructions)
    tiny, _, huge = size_model().of_words(words_of(name, instructions) if words is None else words)
    middle = min(max(counted.minutes, MIDDLE[0]), MIDDLE[1])
    value = tiny * log(TINY_MINUTES) + huge * log(HUGE_MINUTES) + (1 - tiny - huge) * log(middle)
    return msgspec.structs.replace(
        counted,
        minutes=float(f"{exp(value):.2g}"),
        features={**counted.features, TINY: tiny, HUGE: huge},
    )


@cache
def size_model() -> KindText:
    """The model of the three sizes; read once."""
    return KindText(SIZES, shipped=read_words(SHIPPED))
