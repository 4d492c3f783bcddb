"""Hard requirements are rules, and each exclusion has its reason in words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.catalog import Candidate, Catalog
from service.contract.errors import NoCandidateAvailableError, NoEligibleCandidateError
from service.contract.task import Task
from service.decide.eligibility import RETRY_AFTER_SECONDS, Eligibility, refusal, screen
from tests.support.builders import NOW, candidate, failed, small_catalog, task

CATALOG = small_catalog()
NONE: set[str] = set()
KEYS = [c.key for c in CATALOG.candidates]


def screened(request: Task, catalog: Catalog = CATALOG) -> Eligibility:
    """What the rules make of a task, costs as in the catalog."""
    return screen(catalog, request, now=NOW, cost_usd=lambda c: c.cost_usd or 0.0)


def names(eligibility: Eligibility) -> set[str]:
    """The eligible ones, as agent/model."""
    return {str(c) for c in eligibility.eligible}


def soon(seconds: float) -> str:
    """That many seconds from now, as a request writes it."""
    return (NOW + timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("require", "eligible"),
    [
        pytest.param({}, {"alpha/big", "alpha/small", "beta/wide", "gamma/mid", "home/tiny"}, id="nothing"),
        pytest.param({"agent_types": ["alpha", "nobody"]}, {"alpha/big", "alpha/small"}, id="agent-types"),
        pytest.param({"agent_types": []}, NONE, id="no-agent-type"),
        pytest.param(
            {"exclude": [{"agent_type": "alpha"}]}, {"beta/wide", "gamma/mid", "home/tiny"}, id="exclude-agent"
        ),
        pytest.param(
            {"exclude": [{"agent_type": "alpha", "model": "big"}, {"agent_type": "x"}]},
            {"alpha/small", "beta/wide", "gamma/mid", "home/tiny"},
            id="exclude-pair",
        ),
        pytest.param({"inputs": ["text", "pdf", "pdf"]}, {"beta/wide"}, id="inputs"),
        pytest.param({"inputs": ["audio"]}, NONE, id="input-that-none-reads"),
        pytest.param({"context_tokens": 150_000}, {"alpha/big", "alpha/small", "beta/wide"}, id="context"),
        pytest.param({"context_tokens": 0}, {str(c) for c in CATALOG.candidates}, id="context-of-nothing"),
        pytest.param(
            {"context_tokens": 100_000}, {"alpha/big", "alpha/small", "beta/wide", "gamma/mid"}, id="exact-context"
        ),
        pytest.param({"local_only": True}, {"home/tiny"}, id="local"),
        pytest.param({"max_cost_usd": 0.25}, {"alpha/small", "gamma/mid", "home/tiny"}, id="cost-that-is-equal"),
        pytest.param({"max_cost_usd": 0}, {"home/tiny"}, id="free"),
        pytest.param({"local_only": True, "context_tokens": 1}, NONE, id="unknown-context"),
    ],
)
def test_require_is_kept(require: dict[str, Any], eligible: set[str]) -> None:
    """Each field of `require` lets through exactly the candidates that it allows, and each other has its reason."""
    found = screened(task(require=require))
    assert names(found) == eligible
    assert {f"{e.agent_type}/{e.model}" for e in found.excluded} == {str(c) for c in CATALOG.candidates} - eligible
    assert all(e.why for e in found.excluded)


def test_a_cost_that_equals_the_limit_but_for_the_last_bit_is_within() -> None:
    """0.1 + 0.2 is not 0.3 to a computer; the caller's limit of 0.3 admits it: catches a bare comparison."""
    only = Catalog([candidate("a", "m", cost_usd=0.1 + 0.2)])
    assert names(screened(task(require={"max_cost_usd": 0.3}), only)) == {"a/m"}


@pytest.mark.parametrize(
    ("fleet", "eligible"),
    [
        pytest.param(
            {"alpha": {"running": 2, "slots": 2}}, {"beta/wide", "gamma/mid", "home/tiny"}, id="slots-not-pooled"
        ),
        pytest.param({"alpha": {"running": 1, "slots": 2}}, {str(c) for c in CATALOG.candidates}, id="a-slot-free"),
        pytest.param(
            {"alpha": {"running": 9, "slots": None}}, {str(c) for c in CATALOG.candidates}, id="no-slots-told"
        ),
        pytest.param({"alpha": {"slots": 0}}, {"beta/wide", "gamma/mid", "home/tiny"}, id="no-slots-at-all"),
        pytest.param({"alpha": {"available_at": soon(60)}}, {"gamma/mid", "home/tiny"}, id="paused-pool"),
        pytest.param({"alpha": {"available_at": soon(0)}}, {str(c) for c in CATALOG.candidates}, id="pause-just-over"),
        pytest.param({"beta": {"quota_left": 0}}, {"gamma/mid", "home/tiny"}, id="pool-without-quota"),
        pytest.param({"beta": {"quota_left": 0.001}}, {str(c) for c in CATALOG.candidates}, id="little-quota"),
        pytest.param(
            {"alpha": {"available_at": soon(60)}, "beta": {"quota_left": 1}},
            {"gamma/mid", "home/tiny"},
            id="one-says-no",
        ),
        pytest.param(
            {"gamma": {"quota_left": 0}},
            {"alpha/big", "alpha/small", "beta/wide", "home/tiny"},
            id="agent-without-pool",
        ),
        pytest.param(
            {"nobody": {"slots": 0, "quota_left": 0}}, {str(c) for c in CATALOG.candidates}, id="unknown-agent"
        ),
    ],
)
def test_fleet_state_is_heeded(fleet: dict[str, Any], eligible: set[str]) -> None:
    """Agents of one quota pool go together by `available_at` and `quota_left`, and each by itself by its slots."""
    assert names(screened(task(fleet=fleet))) == eligible


def test_agents_without_a_pool_do_not_share_one() -> None:
    """That two agents have no pool does not put them into the same one: catches None as a pool's name."""
    catalog = Catalog([candidate("a", "m"), candidate("b", "m")])
    assert names(screened(task(fleet={"a": {"quota_left": 0}}), catalog)) == {"b/m"}


@pytest.mark.parametrize("result", ["failed", "error"])
def test_an_earlier_attempt_rules_its_pair_out(result: str) -> None:
    """Whatever went wrong, the same pair is not tried again in this decision; its siblings may be."""
    found = screened(task(attempts=[failed("alpha", "big", result)]))
    assert names(found) == {"alpha/small", "beta/wide", "gamma/mid", "home/tiny"}


def test_a_rate_limit_rests_the_quota_pool() -> None:
    """An attempt that was rate limited rules out all that draws on the same pool, for now, and says which it was."""
    found = screened(task(attempts=[failed("alpha", "big", "rate_limited")]))
    assert names(found) == {"gamma/mid", "home/tiny"}
    why = {e.model: e.why for e in found.excluded}
    assert why["big"] == "was rate limited at an earlier attempt at this task"
    assert why["wide"] == "quota pool shared: alpha/big was rate limited at an earlier attempt at this task"
    assert isinstance(refusal(found, now=NOW, requested=CATALOG.by_key["beta", "wide"]), NoCandidateAvailableError)


def test_a_rate_limit_without_a_pool_rests_the_pair() -> None:
    """Where the catalog names no pool, nothing is known to be shared."""
    catalog = Catalog([candidate("a", "m"), candidate("a", "n"), candidate("b", "m")])
    found = screened(task(attempts=[failed("a", "m", "rate_limited")]), catalog)
    assert names(found) == {"a/n", "b/m"}


def test_where_two_are_left_a_pair_that_failed_once_may_try_again() -> None:
    """At most two candidates that the task's requirements leave: each may fail once and be tried once more."""
    one = Catalog([candidate("a", "m")])
    assert names(screened(task(attempts=[failed("a", "m")]), one)) == {"a/m"}
    twice = screened(task(attempts=[failed("a", "m"), failed("a", "m")]), one)
    assert isinstance(refusal(twice, now=NOW), NoEligibleCandidateError)
    assert [e.why for e in twice.excluded] == ["already failed this task 2 times"]
    request = {"require": {"agent_types": ["alpha"]}, "attempts": [failed("alpha", "big"), failed("alpha", "small")]}
    assert names(screened(task(**request))) == {"alpha/big", "alpha/small"}
    three = {"require": {"agent_types": ["alpha", "gamma"]}, "attempts": [failed("alpha", "big")]}
    assert names(screened(task(**three))) == {"alpha/small", "gamma/mid"}


def test_who_is_away_for_now_still_counts() -> None:
    """That others wait for a slot makes no second try: they will be there."""
    request = {"attempts": [failed("gamma", "mid")], "fleet": {"alpha": {"slots": 0}, "beta": {"slots": 0}}}
    assert names(screened(task(**request))) == {"home/tiny"}


def test_a_solved_attempt_rules_nothing_out() -> None:
    """A pair that solved the task before may be chosen again."""
    assert len(screened(task(attempts=[failed("alpha", "big", "solved")])).eligible) == len(KEYS)


@pytest.mark.parametrize("results", [("failed", "rate_limited"), ("rate_limited", "failed"), ("error", "failed")])
def test_a_failure_outweighs_a_rate_limit(results: tuple[str, str]) -> None:
    """A pair that failed is out for good, whatever else befell it before or after: 422 and not 503."""
    attempts = [failed(*key, result) for key in KEYS for result in results]
    assert isinstance(refusal(screened(task(attempts=attempts)), now=NOW), NoEligibleCandidateError)


def test_every_candidate_failed_is_final_and_one_rate_limited_is_not() -> None:
    """All `failed` is 422; one that was only `rate_limited` or in `error` could still take it: 503."""
    final = [failed(*key) for key in KEYS]
    assert isinstance(refusal(screened(task(attempts=final)), now=NOW), NoEligibleCandidateError)
    for result in ("rate_limited", "error"):
        error = refusal(screened(task(attempts=[*final[1:], failed(*KEYS[0], result)])), now=NOW)
        assert isinstance(error, NoCandidateAvailableError)
        assert (error.wait_until, error.retry_after_seconds) == (None, RETRY_AFTER_SECONDS)


def test_only_a_requested_agents_models_compete() -> None:
    """A registered agent type without a model leaves its own models, and says so of the others."""
    found = screened(task(agent_type="alpha"))
    assert names(found) == {"alpha/big", "alpha/small"}
    assert {e.why for e in found.excluded} == {"agent type alpha was asked for"}


def unavailable(fleet: dict[str, Any], **fields: Any) -> NoCandidateAvailableError:  # noqa: ANN401 - fields of a request
    """The 503 of a task that only `alpha` and `gamma` may take."""
    error = refusal(screened(task(require={"agent_types": ["alpha", "gamma"]}, fleet=fleet, **fields)), now=NOW)
    assert isinstance(error, NoCandidateAvailableError)
    return error


def test_wait_until_is_the_first_moment_at_which_one_is_free() -> None:
    """Of two that are paused the earlier counts, and Retry-After leads just there."""
    error = unavailable({"alpha": {"available_at": soon(600)}, "gamma": {"available_at": soon(90.5)}})
    assert error.wait_until == NOW + timedelta(seconds=90.5)
    assert error.retry_after_seconds == 91


def test_a_pool_is_free_when_its_last_member_is() -> None:
    """Where two agents of a pool name different times, the pool waits for the later."""
    catalog = Catalog([candidate("a", "m", quota_pool="p"), candidate("b", "m", quota_pool="p")])
    fleet = {"a": {"available_at": soon(60)}, "b": {"available_at": soon(120)}}
    error = refusal(screened(task(fleet=fleet), catalog), now=NOW)
    assert isinstance(error, NoCandidateAvailableError)
    assert error.wait_until == NOW + timedelta(seconds=120)


def test_a_slot_may_come_free_before_the_pause_is_over() -> None:
    """Where one waits an hour and another only for a slot, the caller is not sent away for the hour."""
    error = unavailable({"alpha": {"available_at": soon(3600)}, "gamma": {"slots": 0}})
    assert error.wait_until == NOW + timedelta(hours=1)
    assert error.retry_after_seconds == RETRY_AFTER_SECONDS


def test_a_pause_is_told_also_where_slots_are_short() -> None:
    """An agent that is paused and full is not free before its pause is over: catches a date that gets lost."""
    state = {"available_at": soon(300), "slots": 1, "running": 1}
    error = unavailable({"alpha": state, "gamma": state})
    assert (error.wait_until, error.retry_after_seconds) == (NOW + timedelta(seconds=300), 300)


def test_without_a_date_wait_until_is_none() -> None:
    """Slots and quotas have no date: the caller is told when to ask again, not when it will be free."""
    error = unavailable({"alpha": {"slots": 0}, "gamma": {"quota_left": 0}})
    assert (error.wait_until, error.retry_after_seconds) == (None, RETRY_AFTER_SECONDS)


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999999Z"])
def test_the_end_of_time_is_no_defect(at: str) -> None:
    """A date that leaves the calendar in UTC is the last one there is: catches an OverflowError."""
    error = unavailable({"alpha": {"available_at": at}, "gamma": {"available_at": at}})
    assert error.wait_until is not None
    assert error.wait_until.astimezone(UTC).year == 9999
    assert error.retry_after_seconds > 10**9


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+12:00", "2026-01-02T04:04:05+01:00"], ids=["first-day", "zone"])
def test_a_date_that_has_passed_is_no_obstacle(at: str) -> None:
    """Zones are taken into account, and the first day of the calendar is long over."""
    assert len(screened(task(fleet={"alpha": {"available_at": at}})).eligible) == len(KEYS)


def test_a_refusal_of_a_requested_pair_speaks_of_that_pair() -> None:
    """What others could do is of no interest to one who asked for this very pair; the words have its reasons."""
    wanted = CATALOG.by_key["gamma", "mid"]
    later = refusal(screened(task(fleet={"gamma": {"slots": 0}})), now=NOW, requested=wanted)
    assert isinstance(later, NoCandidateAvailableError)
    assert "gamma/mid" in str(later)
    assert "no free slot" in str(later)
    never = refusal(screened(task(require={"inputs": ["pdf"]})), now=NOW, requested=wanted)
    assert isinstance(never, NoEligibleCandidateError)
    assert "cannot read pdf" in str(never)


def test_one_that_can_never_do_it_does_not_make_it_a_503() -> None:
    """A pair that is both unfit and busy is unfit: 422."""
    request = task(require={"inputs": ["audio"]}, fleet={"alpha": {"slots": 0}, "gamma": {"available_at": soon(9)}})
    assert isinstance(refusal(screened(request), now=NOW), NoEligibleCandidateError)


agents = st.sampled_from(["alpha", "beta", "gamma", "home", "nobody"])
models = st.sampled_from(["big", "small", "wide", "mid", "tiny", "none"])
states = st.fixed_dictionaries(
    {},
    optional={
        "running": st.integers(0, 3),
        "slots": st.none() | st.integers(0, 3),
        "available_at": st.none() | st.integers(-100, 100).map(soon),
        "quota_left": st.none() | st.sampled_from([0, 0.0, 0.5, 1]),
    },
)
requirements = st.fixed_dictionaries(
    {},
    optional={
        "agent_types": st.none() | st.lists(agents, max_size=3),
        "exclude": st.lists(
            st.fixed_dictionaries({"agent_type": agents}, optional={"model": st.none() | models}), max_size=3
        ),
        "inputs": st.lists(st.sampled_from(["text", "image", "pdf", "audio"]), max_size=2),
        "context_tokens": st.none() | st.sampled_from([0, 1, 100_000, 200_000, 10**6, 10**7]),
        "local_only": st.booleans(),
        "max_cost_usd": st.none() | st.sampled_from([0, 0.05, 0.25, 0.3, 1]),
    },
)
attempt_lists = st.lists(
    st.builds(failed, agents, models, st.sampled_from(["failed", "solved", "rate_limited", "error"])), max_size=4
)
requests = st.builds(
    task,
    require=requirements,
    fleet=st.dictionaries(agents, states, max_size=3),
    attempts=attempt_lists,
    agent_type=st.none() | agents,
)


def may_ever(c: Candidate, request: Task) -> bool:
    """The contract's hard rules once more, written the long way."""
    require = request.require
    return all(
        (
            require.agent_types is None or c.agent_type in require.agent_types,
            all(e.agent_type != c.agent_type or e.model not in {None, c.model} for e in require.exclude),
            set(require.inputs) <= set(c.inputs),
            not require.context_tokens or (c.context_tokens or 0) >= require.context_tokens,
            c.local or not require.local_only,
            require.max_cost_usd is None or (c.cost_usd or 0) <= require.max_cost_usd,
            request.agent_type in {None, "nobody", c.agent_type},
        )
    )


def keeps(c: Candidate, request: Task) -> bool:
    """All of the contract's rules, what passes with time included."""
    fleet = request.fleet
    pool = [a for a in fleet if a == c.agent_type or (c.quota_pool and {a, c.agent_type} <= {"alpha", "beta"})]
    own = fleet.get(c.agent_type)
    mine = [a.result for a in request.attempts if (a.agent_type, a.model) == c.key]
    limited = {a.agent_type for a in request.attempts if a.result == "rate_limited"}
    again = sum(may_ever(other, request) for other in CATALOG.candidates) <= 2
    return all(
        (
            may_ever(c, request),
            mine.count("failed") <= again,
            not {"rate_limited", "error"} & set(mine),
            c.quota_pool is None or not limited & {"alpha", "beta"},
            own is None or own.slots is None or own.running < own.slots,
            all(at is None or at <= NOW for at in (fleet[a].available_at for a in pool)),
            all(fleet[a].quota_left != 0 for a in pool),
        )
    )


@given(requests)
def test_the_rules_agree_with_the_contract(request: Task) -> None:
    """Exactly the candidates that keep every rule are eligible, and each other one is excluded once, with words."""
    found = screened(request)
    assert [c.key for c in found.eligible] == [c.key for c in CATALOG.candidates if keeps(c, request)]
    assert len(found.eligible) + len(found.excluded) == len(CATALOG.candidates)
    assert all(e.why for e in found.excluded)


@given(requests, st.datetimes(timezones=st.just(UTC)))
def test_a_refusal_always_says_when_to_ask_again(request: Task, now: datetime) -> None:
    """Whatever stands in the way, the error has all exclusions, and a Retry-After of at least a second."""
    found = screen(CATALOG, request, now=now, cost_usd=lambda c: c.cost_usd or 0.0)
    if found.eligible:
        return
    error = refusal(found, now=now)
    assert len(error.excluded) == len(CATALOG.candidates)
    if isinstance(error, NoCandidateAvailableError):
        assert error.retry_after_seconds >= 1
        assert error.wait_until is None or error.wait_until > now
