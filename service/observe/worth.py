"""Whether asking a classifier is worth its time, in words: by what became of choices that the forecast alone would not
have made."""

from math import sqrt

from service.base.shares import Z95
from service.contract.report import Right

ENOUGH = 100
"""Attempts of either side before anything is said of who is right: by then a solved rate has a standard error of at
most 5 points (sqrt(0.25 / 100)), and with fewer a difference of 10 points may be chance."""


def in_words(classifier: Right, forecast: Right, loss_usd: float) -> str:
    """One sentence. `classifier` and `forecast` are the attempts with one's choice where the other would have chosen
    another; `loss_usd` is what the classifier's other choices were expected to lose, by the forecast's reckoning."""
    if classifier.n < ENOUGH:
        return (
            f"Too early to say: the outcomes of {classifier.n} of the classifier's own choices are known, "
            f"and {ENOUGH} are needed."
        )
    if forecast.n < ENOUGH:
        return (
            f"Not to be seen yet: where they differed, {forecast.n} outcomes with the forecast's choice are known, and "
            f"{ENOUGH} are needed; `decision.first_choice` as `blend` or `forecast` brings them. By the forecast's "
            f"reckoning the classifier's choices cost ${loss_usd:,.2f}."
        )
    first, second = classifier.solved / classifier.n, forecast.solved / forecast.n
    error = sqrt(first * (1 - first) / classifier.n + second * (1 - second) / forecast.n)
    difference, margin = first - second, Z95 * error
    compared = (
        f"where they differed, the classifier's choices solved {first:.0%} and the forecast's {second:.0%} "
        f"(difference {100 * difference:+.0f} points, 95 % within {100 * margin:.0f})"
    )
    if abs(difference) <= margin:
        return f"No difference shown: {compared}."
    return f"The classifier is {'' if difference > 0 else 'not '}worth its time: {compared}."
