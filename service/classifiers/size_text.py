"""How long an expert might need, from a task's text: plainly tiny and plainly huge tasks are told by their words.

In between, where most tasks are, `forecast.effort` counts a few things and knows little. At the ends the same sum of
word weights that tells kinds (`kind_text`) says how surely a task is tiny (a typo, a constant, a comment) or huge (a
platform, an operating system, a rewrite of everything), and the minutes go there as far as it is sure.
"""

from functools import cache
from math import exp, log
from pathlib import Path

from service.classifiers.kind_text import KindText, read_words
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

_LOG_TINY, _LOG_HUGE = log(TINY_MINUTES), log(HUGE_MINUTES)


def estimate_size(name: str, instructions: str) -> Effort:
    """The estimate for a task's title and text, between TINY_MINUTES and HUGE_MINUTES, two digits of it."""
    return with_ends(estimate_minutes(name, instructions), size_model().probabilities(name, instructions))


def with_ends(counted: Effort, sizes: tuple[float, ...]) -> Effort:
    """What was counted, and where the text is plainly of one of the SIZES that size's minutes."""
    tiny, _, huge = sizes
    middle = min(max(counted.minutes, MIDDLE[0]), MIDDLE[1])
    value = tiny * _LOG_TINY + huge * _LOG_HUGE + (1 - tiny - huge) * log(middle)
    return Effort(
        minutes=float(f"{exp(value):.2g}"),
        spread=counted.spread,
        features={**counted.features, TINY: tiny, HUGE: huge},
        clipped=counted.clipped,
    )


@cache
def size_model() -> KindText:
    """The model of the three sizes; read once."""
    return KindText(SIZES, shipped=read_words(SHIPPED))
