"""The breaker opens, lets one probe through, and closes; nobody but the classifier itself can open it quickly."""

import pytest

from service.classifiers.breaker import (
    FAILURES,
    HASTY_TIME_OUTS,
    PATIENT,
    PROBE_SECONDS,
    RESTS_SECONDS,
    USELESS_REPLIES,
    Breaker,
    Call,
)
from service.classifiers.classifier import Blame
from tests.support.builders import HandClock


@pytest.fixture
def clock() -> HandClock:
    """The breaker's clock."""
    return HandClock()


@pytest.fixture
def breaker(clock: HandClock) -> Breaker:
    """A closed one."""
    return Breaker(clock)


def entered(breaker: Breaker) -> Call:
    """Permission that must be given."""
    call = breaker.enter()
    assert call is not None
    return call


def fail(breaker: Breaker, times: int = 1, blame: Blame = Blame.CLASSIFIER, retry_after: float | None = None) -> None:
    """So many calls that fail, one after the other."""
    for _ in range(times):
        breaker.failed(entered(breaker), blame, retry_after=retry_after, why="timeout")


def state(breaker: Breaker) -> str:
    """Its state as plain text, which a type checker does not take for settled."""
    return breaker.state


def opened(breaker: Breaker) -> None:
    """Opens it by failures."""
    fail(breaker, FAILURES)
    assert state(breaker) == "open"


def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    """Three failures of the classifier's own open it, not two; then nobody gets through, and why is told."""
    fail(breaker, FAILURES - 1)
    assert (state(breaker), breaker.why) == ("closed", "")
    fail(breaker)
    assert (state(breaker), breaker.why, breaker.admits) == ("open", "timeout", False)
    assert breaker.enter() is None
    assert breaker.rests_for() == RESTS_SECONDS[0]


def test_a_success_starts_the_count_anew(breaker: Breaker) -> None:
    """Failures with a success among them are not in a row."""
    for _ in range(5):
        fail(breaker, FAILURES - 1)
        breaker.succeeded(entered(breaker))
    assert state(breaker) == "closed"


def test_a_useless_reply_is_a_sign_of_life(breaker: Breaker) -> None:
    """What answers is not down: time-outs with replies among them are not in a row."""
    for _ in range(3):
        fail(breaker, FAILURES - 1)
        fail(breaker, blame=Blame.REPLY)
    assert state(breaker) == "closed"


def test_exactly_one_probe_goes_when_the_rest_is_over(breaker: Breaker, clock: HandClock) -> None:
    """Half-open lets one call through and no other until that one has ended: catches a herd of probes."""
    opened(breaker)
    clock.move(RESTS_SECONDS[0] - 0.001)
    assert breaker.enter() is None
    clock.move(0.001)
    assert (state(breaker), breaker.admits, breaker.rests_for()) == ("half-open", True, 0.0)
    entered(breaker)
    assert (state(breaker), breaker.admits) == ("half-open", False)
    assert [breaker.enter() for _ in range(5)] == [None] * 5


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: HandClock) -> None:
    """After one good answer all may go again, and the count begins at nought."""
    opened(breaker)
    clock.move(RESTS_SECONDS[0])
    breaker.succeeded(entered(breaker))
    assert (state(breaker), breaker.why) == ("closed", "")
    fail(breaker, FAILURES - 1)
    assert state(breaker) == "closed"


def test_rests_grow_up_to_the_contracts_limit(breaker: Breaker, clock: HandClock) -> None:
    """Each probe that fails makes the rest longer, never above 30 s; a success makes it short again."""
    opened(breaker)
    rests = [breaker.rests_for()]
    for _ in range(5):
        clock.move(breaker.rests_for())
        fail(breaker)
        rests.append(breaker.rests_for())
    assert rests == pytest.approx([*RESTS_SECONDS, 30.0, 30.0])
    clock.move(30.0)
    breaker.succeeded(entered(breaker))
    opened(breaker)
    assert breaker.rests_for() == RESTS_SECONDS[0]


@pytest.mark.parametrize("seconds", [0.5, 7.0, 90.0])
def test_retry_after_holds_it_exactly_that_long(breaker: Breaker, clock: HandClock, seconds: float) -> None:
    """One 429 with a Retry-After opens it at once, for just so long, shorter or longer than its own steps."""
    fail(breaker, retry_after=seconds)
    assert breaker.rests_for() == seconds
    clock.move(seconds - 0.01)
    assert (state(breaker), breaker.enter()) == ("open", None)
    clock.move(0.011)
    assert state(breaker) == "half-open"
    assert breaker.enter() is not None


def test_retry_after_holds_it_whosever_fault_it_was(breaker: Breaker, clock: HandClock) -> None:
    """A probe that is told to wait waits just that long too."""
    opened(breaker)
    clock.move(RESTS_SECONDS[0])
    fail(breaker, blame=Blame.REQUEST, retry_after=11.0)
    assert breaker.rests_for() == pytest.approx(11.0)


def test_retry_after_of_nothing_counts_as_an_ordinary_failure(breaker: Breaker) -> None:
    """A date in the past says `try again`: it neither holds the breaker nor keeps three of them from opening it."""
    fail(breaker, FAILURES - 1, retry_after=0.0)
    assert state(breaker) == "closed"
    fail(breaker, retry_after=0.0)
    assert breaker.rests_for() == RESTS_SECONDS[0]


def test_a_late_answer_does_not_shorten_the_rest(breaker: Breaker) -> None:
    """Of answers that cross on their way the one that asks for most is heeded."""
    calls = [entered(breaker) for _ in range(3)]
    for call, seconds in zip(calls, (60.0, 1.0, None), strict=True):
        breaker.failed(call, Blame.CLASSIFIER, retry_after=seconds)
    assert breaker.rests_for() == 60.0


def test_hostile_replies_do_not_open_it_quickly(breaker: Breaker) -> None:
    """Eleven useless replies in a row leave it closed, and one good one among them starts anew; twelve open it."""
    fail(breaker, USELESS_REPLIES - 1, Blame.REPLY)
    breaker.succeeded(entered(breaker))
    fail(breaker, USELESS_REPLIES - 1, Blame.REPLY)
    assert state(breaker) == "closed"
    fail(breaker, blame=Blame.REPLY)
    assert state(breaker) == "open"


def test_a_task_that_does_not_suit_never_opens_it(breaker: Breaker) -> None:
    """A thousand tasks that are too long, or in too much haste, are the callers' affair."""
    fail(breaker, 1000, Blame.REQUEST)
    assert state(breaker) == "closed"


def test_a_hostile_task_on_the_probe_does_not_keep_it_shut(breaker: Breaker, clock: HandClock) -> None:
    """It was down and now it answers, be it nonsense: it is up. Catches hostile tasks that prolong an outage."""
    opened(breaker)
    clock.move(RESTS_SECONDS[0])
    fail(breaker, blame=Blame.REPLY)
    assert state(breaker) == "closed"


def test_one_that_talked_nonsense_and_still_does_rests_again(breaker: Breaker, clock: HandClock) -> None:
    """Opened by useless replies, it is closed by a useful one only."""
    fail(breaker, USELESS_REPLIES, Blame.REPLY)
    clock.move(RESTS_SECONDS[0])
    fail(breaker, blame=Blame.REPLY)
    assert breaker.rests_for() == pytest.approx(RESTS_SECONDS[1])


def test_an_abandoned_probe_lets_the_next_one_go(breaker: Breaker, clock: HandClock) -> None:
    """A caller that goes away takes its probe with it, not the classifier."""
    opened(breaker)
    clock.move(RESTS_SECONDS[0])
    breaker.abandoned(entered(breaker))
    assert state(breaker) == "half-open"
    breaker.succeeded(entered(breaker))
    assert state(breaker) == "closed"


def test_a_probe_that_suited_nobody_leaves_it_half_open(breaker: Breaker, clock: HandClock) -> None:
    """A probe with a task that does not suit says nothing: the next call is the probe."""
    opened(breaker)
    clock.move(RESTS_SECONDS[0])
    fail(breaker, blame=Blame.REQUEST)
    assert (state(breaker), breaker.admits) == ("half-open", True)


def test_a_lost_probe_is_given_up(breaker: Breaker, clock: HandClock) -> None:
    """One of which nothing is ever heard does not keep it shut for ever."""
    opened(breaker)
    clock.move(RESTS_SECONDS[0])
    lost = entered(breaker)
    clock.move(PROBE_SECONDS)
    second = entered(breaker)
    breaker.failed(lost, Blame.CLASSIFIER)
    assert breaker.enter() is None  # the second probe is still under way
    breaker.succeeded(lost)
    assert state(breaker) == "half-open"
    breaker.succeeded(second)
    assert state(breaker) == "closed"


def test_a_call_from_before_changes_nothing_when_it_is_open(breaker: Breaker) -> None:
    """A success or failure that began before it opened neither closes it nor makes its rest longer."""
    old = [entered(breaker) for _ in range(3)]
    opened(breaker)
    breaker.succeeded(old[0])
    breaker.failed(old[1], Blame.CLASSIFIER)
    breaker.failed(old[2], Blame.REPLY)
    assert state(breaker) == "open"
    assert breaker.rests_for() == RESTS_SECONDS[0]


def test_an_abandoned_call_counts_for_nothing(breaker: Breaker) -> None:
    """Callers who go away, however many, do not open it."""
    for _ in range(100):
        breaker.abandoned(entered(breaker))
    assert state(breaker) == "closed"


def test_it_can_be_woken(breaker: Breaker, clock: HandClock) -> None:
    """However long it was to rest, one probe goes at once, and decides; what is closed stays closed."""
    breaker.wake()
    assert state(breaker) == "closed"
    fail(breaker, retry_after=3600)
    assert not breaker.admits
    breaker.wake()
    assert (state(breaker), breaker.rests_for()) == ("half-open", 0)
    probe = entered(breaker)
    assert breaker.enter() is None
    breaker.failed(probe, Blame.CLASSIFIER, retry_after=60)
    assert breaker.rests_for() == 60
    breaker.wake()
    breaker.succeeded(entered(breaker))
    assert state(breaker) == "closed"


def in_haste(breaker: Breaker, times: int = HASTY_TIME_OUTS, seconds: float = 0.2) -> None:
    """So many time-outs of callers with so little time."""
    for _ in range(times):
        call = breaker.enter(seconds)
        assert call is not None
        breaker.failed(call, Blame.HASTE, given_seconds=seconds, why="timeout")


def test_callers_in_haste_open_it_for_callers_in_haste(breaker: Breaker) -> None:
    """Who has twice as much time as they had is let through, and nothing is said to be down."""
    in_haste(breaker, HASTY_TIME_OUTS - 1)
    assert state(breaker) == "closed"
    in_haste(breaker, 1)
    assert (state(breaker), breaker.down) == ("open", False)
    assert breaker.enter(0.2) is None
    assert breaker.enter(PATIENT * 0.2 - 0.01) is None
    assert breaker.enter(PATIENT * 0.2) is not None


def test_an_answer_among_them_begins_the_count_anew(breaker: Breaker) -> None:
    """Time-outs of callers in haste with answers between them open nothing, however many they are."""
    for _ in range(5):
        in_haste(breaker, HASTY_TIME_OUTS - 1)
        breaker.succeeded(entered(breaker))
    assert state(breaker) == "closed"


def test_a_patient_callers_answer_lets_all_in(breaker: Breaker) -> None:
    """It answers, so it is not down: catches callers in haste who keep it shut though others are served."""
    in_haste(breaker)
    breaker.succeeded(entered(breaker))
    assert state(breaker) == "closed"
    assert breaker.enter(0.2) is not None


def test_patient_callers_find_out_that_it_is_down(breaker: Breaker) -> None:
    """Their failures count as if it were closed, and then it is shut for everybody."""
    in_haste(breaker)
    fail(breaker, FAILURES)
    assert (state(breaker), breaker.down) == ("open", True)
    assert breaker.enter(1e6) is None


def test_less_hasty_callers_raise_the_bar(breaker: Breaker) -> None:
    """Who has more time, and still too little, waits in vain only so often: catches callers with half a second who are
    let through for ever because those with a fifth opened it."""
    in_haste(breaker, seconds=0.2)
    in_haste(breaker, seconds=0.5)
    assert breaker.enter(0.5) is None
    assert breaker.enter(1.0) is not None


def test_a_probe_in_haste_rests_it_longer(breaker: Breaker, clock: HandClock) -> None:
    """After its rest one caller in haste tries it, and in vain: the next rest is longer."""
    in_haste(breaker)
    clock.move(RESTS_SECONDS[0])
    in_haste(breaker, 1)
    assert breaker.rests_for() == RESTS_SECONDS[1]


def test_a_probe_in_haste_keeps_nobody_from_one_that_was_down(breaker: Breaker, clock: HandClock) -> None:
    """Where it was shut for everybody, a probe that had no time says nothing: the next caller is the probe."""
    opened(breaker)
    clock.move(RESTS_SECONDS[0])
    in_haste(breaker, 1)
    assert breaker.admits


def test_calls_from_before_do_not_raise_the_bar(breaker: Breaker) -> None:
    """Those that were under way when it opened are late news."""
    late = [breaker.enter(0.2) for _ in range(HASTY_TIME_OUTS)]
    in_haste(breaker)
    for call in late:
        assert call is not None
        breaker.failed(call, Blame.HASTE, given_seconds=0.2)
    assert breaker.rests_for() == RESTS_SECONDS[0]


def test_a_wait_in_a_queue_of_our_own_is_no_haste(breaker: Breaker) -> None:
    """Who had long and got next to nothing of it, because others were before him, shuts out only who has less than
    that: catches a burst that keeps everybody away from a healthy server."""
    for _ in range(HASTY_TIME_OUTS):
        call = breaker.enter(10.0)
        assert call is not None
        breaker.failed(call, Blame.HASTE, given_seconds=0.01)
    assert breaker.enter(0.01) is None
    assert breaker.enter(0.02) is not None
