"""How likely a window is to be used up before it begins anew."""

from datetime import timedelta

import pytest

from service.contract.quota import Window
from service.forecast.windows import Reading, read, tightest, used_up_until
from tests.support.builders import NOW

FIVE_HOURS, WEEK = 300.0, 10080.0


def reading(used: float, left: float, minutes: float = FIVE_HOURS, reserve: float = 0.0) -> Reading:
    """Of a window of which so much is used, and `left` of its length to come."""
    found = read(window(used, left, minutes), reserve=reserve, now=NOW)
    assert found is not None
    return found


def window(used: float, left: float, minutes: float = FIVE_HOURS) -> Window:
    """One of which so much is used, and `left` of its length to come."""
    return Window(minutes=minutes, used=used, resets_at=NOW + timedelta(minutes=minutes * left))


@pytest.mark.parametrize("minutes", [1e-300, 1.0, FIVE_HOURS, WEEK, 10_000_000.0])
def test_the_chance_grows_with_use_and_with_time_to_go(minutes: float) -> None:
    """Whatever the length: between 0 and 1, more where more is used, and 1 where nothing is left."""
    chances = [reading(used, 0.5, max(minutes, 1e-3)).chance for used in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert chances == pytest.approx(sorted(chances), abs=1e-5)
    assert 0 <= chances[0] < 0.05 < chances[-2] <= chances[-1] == 1
    tiny = read(Window(minutes=minutes, used=0.5, resets_at=NOW + timedelta(minutes=1)), reserve=0.0, now=NOW)
    assert tiny is not None
    assert 0 <= tiny.chance <= 1


def test_just_before_the_reset_nothing_is_held_back() -> None:
    """What will be gone in a moment is next to free, however much of it was used."""
    assert reading(0.7, 0.01).chance < 0.01
    assert reading(0.97, 0.5).chance > 0.9


def test_a_pace_counts_the_more_the_more_was_seen() -> None:
    """Before anything is seen two fifths of a window are usual; a week's first day says more of the week than the first
    half an hour does of five hours, because work comes in bursts."""
    assert reading(0.0, 1.0).pace == pytest.approx(0.4)
    early, week = reading(0.2, 0.9), reading(0.2, 0.9, WEEK)
    assert 0.4 < early.pace < week.pace < 2.0
    assert reading(0.5, 0.75).pace < reading(0.5, 0.75, WEEK).pace < 2.0


def test_an_overrun_week_is_seen_on_its_second_day() -> None:
    """At twice the pace that the week allows, a day makes the use dear, and two days list price in all but name."""
    assert reading(2 / 7, 6 / 7, WEEK).chance > 0.5
    assert reading(4 / 7, 5 / 7, WEEK).chance > 0.95


def test_a_reset_moves_and_clocks_differ() -> None:
    """A reset in the past says nothing; one that is further away than the window is long counts as just that far."""
    assert read(window(1.0, -0.001), reserve=0.0, now=NOW) is None
    assert reading(0.3, 1.02).chance == reading(0.3, 1.0).chance
    assert reading(0.3, 0.5).chance > reading(0.3, 0.4).chance


def test_the_reserve_is_not_there() -> None:
    """A window that is used up to it is used up, and until the latest of such resets nothing runs."""
    assert reading(0.9, 0.5, reserve=0.1).chance == 1
    assert reading(0.5, 0.5, reserve=0.1).chance > reading(0.5, 0.5).chance
    windows = [window(0.95, 0.5), window(0.2, 0.5, WEEK), window(0.91, 0.9, WEEK)]
    assert used_up_until(windows, reserve=0.1, now=NOW) == windows[2].resets_at
    assert used_up_until(windows, reserve=0.0, now=NOW) is None
    binding = tightest(windows, reserve=0.1, now=NOW)
    assert binding is not None
    assert binding.window is windows[2]
