"""How long a classifier takes, learned from its answers."""

import pytest

from service.classifiers.pace import ANSWERS, FIRST_PROBE_SECONDS, LONGEST_PROBE_SECONDS, PATIENCE, Pace


def learned(*answers: float) -> Pace:
    """The pace after these answers, which came at second 0."""
    pace = Pace()
    for took in answers:
        pace.answered(took, 0.0)
    return pace


def test_before_the_first_answer_everybody_asks() -> None:
    """Nothing is known, so nobody is turned away but those without any time."""
    assert learned().quickest is None
    assert learned().allows(0.001, 0.0)
    assert not learned().allows(0.0, 1e9)


def test_the_quickest_answer_says_who_has_too_little_time() -> None:
    """One that once answered in half a second may do so again; nobody with less asks it."""
    pace = learned(2.0, 0.5, 3.0)
    assert pace.quickest == 0.5
    assert pace.allows(0.5, 0.0)
    assert not pace.allows(0.49, 0.0)


def test_what_was_long_ago_is_forgotten() -> None:
    """A server that has become slower is known for it after so many answers."""
    assert learned(0.1, *[2.0] * ANSWERS).quickest == 2.0


def test_probes_are_the_rarer_the_less_time_they_have() -> None:
    """One with half of what is needed goes after twice the time, one with a hundredth hardly ever."""
    pace = learned(2.0)
    assert not pace.allows(1.0, 2 * FIRST_PROBE_SECONDS - 0.1)
    assert pace.allows(1.0, 2 * FIRST_PROBE_SECONDS)
    assert not pace.allows(0.02, 99 * FIRST_PROBE_SECONDS)


def test_each_probe_in_vain_makes_the_next_one_later() -> None:
    """Twice as late, up to a minute for a caller who lacks next to nothing; only probes count."""
    pace, now = learned(2.0), 0.0
    rests: list[float] = []
    for _ in range(9):
        before = now
        while not pace.allows(1.999, now):
            now += 0.25
        pace.asked(1.999, now)
        pace.asked(5.0, now)
        rests.append(now - before)
    assert rests[0] == pytest.approx(FIRST_PROBE_SECONDS, abs=0.26)
    assert rests[-1] == pytest.approx(LONGEST_PROBE_SECONDS, abs=0.4)
    assert rests == sorted(rests)


def test_a_probe_that_is_answered_lets_the_others_in() -> None:
    """A server that loaded its model first and is quick now is asked by all again."""
    pace = learned(8.0)
    pace.asked(1.0, 10.0)
    pace.answered(0.3, 10.3)
    assert pace.allows(0.3, 10.4)


def test_patience_grows_with_what_answers_take() -> None:
    """Never below what is thought to be patience."""
    assert learned().patience(1.0) == 1.0
    assert learned(0.1).patience(1.0) == 1.0
    assert learned(1.0, 2.0, 9.0).patience(1.0) == PATIENCE * 2.0
