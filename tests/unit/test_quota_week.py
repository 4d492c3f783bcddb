"""The simulated week of a plan with windows measures what it says."""

import pytest

from tests.load.quota_pool import FIVE_HOURS, FIVE_HOURS_SHARE, WEEK, Pool
from tests.load.quota_week import SCENARIOS, weeks_of


@pytest.mark.parametrize("scenario", ["strong", "codex", "local"])
def test_who_holds_nothing_back_loses_nothing(scenario: str) -> None:
    """That windows close early is no loss of those who used them up; no way is worth more than a plan without end."""
    weeks = weeks_of("mornings", SCENARIOS[scenario], 200, seed=700)
    for policy in ("empty", "free"):
        assert len(weeks[policy].losses) > WEEK // FIVE_HOURS
        assert max(weeks[policy].losses) == 0
    assert weeks["list"].net < weeks["priced"].net <= weeks["free"].net * 1.01
    assert (max(weeks["list"].losses) > 0) == (scenario != "local")


def test_a_loss_is_what_was_left_and_held_back() -> None:
    """Of a window that was used up all the same nothing is lost, of a week only what its windows of five hours lost."""
    pool = Pool.of(1000.0)
    short = FIVE_HOURS_SHARE * 1000.0
    pool.hold_back(50.0)
    pool.draw(short - 30.0)  # 30 are left of the first
    pool.advance(FIVE_HOURS)
    pool.hold_back(50.0)
    pool.draw(short)  # nothing of the second
    pool.advance(WEEK)
    assert pool.losses[:3] == pytest.approx([30.0 / short, 0.0, 0.0])
    assert pool.losses[-1] == pytest.approx(30.0 / 1000.0)


def test_a_week_that_was_used_up_has_lost_nothing() -> None:
    """What was left of five hours then went to later ones."""
    pool = Pool.of(100.0)
    pool.hold_back(5.0)
    for start in range(0, WEEK, FIVE_HOURS):
        pool.advance(start)
        pool.draw(3.0)
    pool.advance(WEEK)
    assert max(pool.losses) == 0
