"""Whether the classifier is worth its time, in words."""

import pytest

from service.contract.report import Right
from service.observe.worth import ENOUGH, in_words


def right(n: int, share: float) -> Right:
    """So many attempts, of which that share solved."""
    return Right(n=n, solved=round(n * share))


@pytest.mark.parametrize(
    ("classifier", "forecast", "begins"),
    [
        pytest.param(right(ENOUGH - 1, 1.0), right(1000, 0.0), "Too early to say", id="few of the classifier's"),
        pytest.param(right(1000, 1.0), right(ENOUGH - 1, 0.0), "Not to be seen yet", id="few of the forecast's"),
        pytest.param(right(400, 0.7), right(400, 0.5), "The classifier is worth its time", id="better"),
        pytest.param(right(400, 0.5), right(400, 0.7), "The classifier is not worth its time", id="worse"),
        pytest.param(right(400, 0.60), right(400, 0.62), "No difference shown", id="alike"),
        pytest.param(right(ENOUGH, 1.0), right(ENOUGH, 1.0), "No difference shown", id="all solved"),
    ],
)
def test_nothing_is_claimed_that_the_outcomes_do_not_show(classifier: Right, forecast: Right, begins: str) -> None:
    """A word for the classifier or against it is only said where the difference is beyond chance."""
    assert in_words(classifier, forecast, 1.0).startswith(begins)


def test_what_was_never_tried_is_no_evidence() -> None:
    """Where only the classifier's choices were made, the sentence says what would show the other side."""
    said = in_words(right(500, 0.6), right(0, 0.0), 12.5)
    assert "blend" in said
    assert "$12.50" in said
