"""A reply becomes a verdict, or an error that the model can be told."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.classifiers.verdict import MAX_MINUTES, REPLY_LIMIT, VerdictError, read_verdict
from tests.support.builders import candidate

KNOWN = (candidate("alpha", "big"), candidate("alpha", "small"), candidate("beta", "wide"))
ELIGIBLE = KNOWN[:2]


def reply(**fields: Any) -> str:  # noqa: ANN401 - anything that JSON holds
    """A good reply, changed by `fields`."""
    good = {"agent_type": "alpha", "model": "big", "minutes": 30, "confidence": 0.7, "reason": "It fits."}
    return json.dumps({**good, **fields})


GOOD = reply()
CODED = json.dumps({"code": "c1", "minutes": 30, "confidence": 0.7, "reason": "It fits."})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD, id="plain"),
        pytest.param(f"\ufeff{GOOD}\n", id="byte-order-mark"),
        pytest.param(f"```json\n{GOOD}\n```", id="fenced"),
        pytest.param(f'Sure! I think {{so}} and {{ "hm" }}:\n{GOOD}\nHope that helps.', id="prose-with-braces"),
        pytest.param(f"[{GOOD}]", id="list"),
        pytest.param(f"<think>perhaps {reply(model='small')}?</think>{GOOD}", id="think"),
        pytest.param(f"perhaps {reply(model='small')}?</THINK>\n{GOOD}", id="think-opened-in-the-prompt"),
        pytest.param(f"<think>a</think><thinking>b</thinking>{GOOD}", id="two-thoughts"),
        pytest.param(f"{GOOD}\n{GOOD}", id="said-twice"),
        pytest.param(reply(agent_type=" ALPHA", model="Big "), id="case-and-spaces"),
        pytest.param(reply(extra={"deep": [1, 2]}), id="unknown-field"),
        pytest.param(reply(reason="Strip the <think> tags."), id="reason-that-names-a-think-tag"),
        pytest.param(reply(reason="line\nbreak").replace("\\n", "\n"), id="raw-line-break-in-a-string"),
        pytest.param(f'{{"note": "not this"}} {GOOD}', id="another-object"),
        pytest.param(CODED, id="code"),
        pytest.param(CODED.replace('"c1"', '"C1"'), id="code-in-capitals"),
        pytest.param(CODED.replace('"c1"', '" 1 "'), id="code-without-its-letter"),
        pytest.param(CODED.replace('"c1"', "1"), id="code-as-a-number"),
        pytest.param(CODED.replace('"c1"', '"c1 | alpha | big"'), id="code-with-its-line"),
        pytest.param(reply(code="c1"), id="code-and-name"),
        pytest.param(reply(code="print(1)"), id="name-and-a-code-of-something-else"),
        pytest.param(reply(code=["c2"]), id="name-and-a-list"),
        pytest.param(reply(code="c1", model="huge"), id="code-and-a-name-that-nobody-has"),
        pytest.param(f"{CODED} {GOOD}", id="said-in-both-ways"),
    ],
)
def test_a_good_verdict_is_found(text: str) -> None:
    """What stands around the one object, and its small faults, do not hide the choice."""
    verdict = read_verdict(text, ELIGIBLE, KNOWN)
    assert verdict.candidate.key == ("alpha", "big")
    assert (verdict.minutes, verdict.confidence) == (30.0, 0.7)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "no-json", id="empty"),
        pytest.param("The second one.", "no-json", id="prose"),
        pytest.param(GOOD[:40], "no-json", id="truncated"),
        pytest.param(f"<think>{GOOD}", "no-json", id="thought-that-never-ended"),
        pytest.param("[1, 2]", "no-json", id="list-of-numbers"),
        pytest.param('{"agent_type": "alpha"}', "wrong-shape", id="missing-field"),
        pytest.param(reply(model=7), "wrong-shape", id="wrong-type"),
        pytest.param(reply(model=None), "wrong-shape", id="null"),
        pytest.param(reply(agent_type=["alpha"]), "wrong-shape", id="list-as-name"),
        pytest.param(f"{GOOD} {reply(model='small')}", "ambiguous", id="two-choices"),
        pytest.param(reply(model="huge"), "unknown-candidate", id="unknown"),
        pytest.param(reply(model="\ud800"), "unknown-candidate", id="lone-surrogate"),
        pytest.param(reply(agent_type="beta", model="wide"), "ineligible-candidate", id="ineligible"),
        pytest.param(reply(agent_type="beta"), "unknown-candidate", id="model-of-another-agent"),
        pytest.param('{"code": "c4"}', "unknown-candidate", id="code-beyond-the-list"),
        pytest.param('{"code": "c0"}', "unknown-candidate", id="code-before-the-list"),
        pytest.param('{"code": -1}', "unknown-candidate", id="negative-code"),
        pytest.param('{"code": 1.5}', "unknown-candidate", id="half-a-code"),
        pytest.param('{"code": NaN}', "unknown-candidate", id="no-number"),
        pytest.param('{"code": 1e999}', "unknown-candidate", id="endless-code"),
        pytest.param('{"code": "c11"}', "unknown-candidate", id="code-that-begins-like-another"),
        pytest.param('{"code": "cheapest"}', "unknown-candidate", id="word-as-code"),
        pytest.param('{"code": true}', "wrong-shape", id="code-of-a-wrong-type"),
        pytest.param('{"minutes": 30}', "wrong-shape", id="no-choice"),
        pytest.param('{"code": "c3"}', "ineligible-candidate", id="ineligible-code"),
        pytest.param(reply(code="c2"), "ambiguous", id="code-and-name-differ"),
        pytest.param('{"code": "c1"} {"code": "c2"}', "ambiguous", id="two-codes"),
        pytest.param("{" * 100_000, "no-json", id="braces"),
        pytest.param('{"a":' * 50_000, "no-json", id="deep-objects"),
        pytest.param(reply(reason="x")[:-1] + ', "x": ' + "[" * 30_000, "no-json", id="deep-lists"),
        pytest.param(" " * REPLY_LIMIT + GOOD, "no-json", id="beyond-the-limit"),
    ],
)
def test_a_useless_reply_says_what_is_wrong(text: str, problem: str) -> None:
    """Each way of being useless has its own word, and a message short enough to be told."""
    with pytest.raises(VerdictError) as caught:
        read_verdict(text, ELIGIBLE, KNOWN)
    assert caught.value.problem == problem
    assert 0 < len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        pytest.param("45", 45.0, id="integer"),
        pytest.param('"45.5"', 45.5, id="string"),
        pytest.param('"soon"', None, id="word"),
        pytest.param("0", None, id="zero"),
        pytest.param("-3", None, id="negative"),
        pytest.param("true", None, id="bool"),
        pytest.param("null", None, id="null"),
        pytest.param("NaN", None, id="not-a-number"),
        pytest.param('"nan"', None, id="not-a-number-as-string"),
        pytest.param("1e999", None, id="infinite"),
        pytest.param("9" * 6_000, None, id="six-thousand-digits"),
        pytest.param("[30]", None, id="list"),
    ],
)
def test_minutes_that_are_no_use_leave_the_choice_alone(written: str, minutes: float | None) -> None:
    """A good choice is not thrown away for its trimmings, and a number is never invented."""
    verdict = read_verdict(GOOD.replace('"minutes": 30', f'"minutes": {written}'), ELIGIBLE, KNOWN)
    assert verdict.candidate.key == ("alpha", "big")
    assert verdict.minutes == minutes


@pytest.mark.parametrize(
    ("confidence", "read"), [(0, 0.0), (1, 1.0), ("0.5", 0.5), (1.01, None), (85, None), (-0.1, None)]
)
def test_confidence_is_within_its_range_or_none(confidence: object, read: float | None) -> None:
    """A confidence outside 0 to 1 is none at all, not one that was bent into range."""
    assert read_verdict(reply(confidence=confidence), ELIGIBLE, KNOWN).confidence == read


def test_the_reason_is_bounded_and_clean() -> None:
    """A reason is one line of at most 500 characters without controls; one of another type is empty."""
    reason = read_verdict(reply(reason="\x1b[31m\u202ea\n" + "b" * 900), ELIGIBLE, KNOWN).reason
    assert reason.startswith("a b")
    assert len(reason) == 500
    assert read_verdict(reply(reason=["x"]), ELIGIBLE, KNOWN).reason == ""


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("c1 is cheap, c3 is not.", "alpha/big is cheap, beta/wide is not."),
        ("c4 and c0 are nobody, abc1 and c1x are words.", "c4 and c0 are nobody, abc1 and c1x are words."),
        ("c1 " * 160, "alpha/big " * 49 + "alpha/big…"),
    ],
    ids=["codes", "no codes", "long"],
)
def test_a_reason_for_a_person_has_names(written: str, shown: str) -> None:
    """Nobody but the model knows the codes: each in a reason becomes the name, and the limit holds all the same."""
    assert read_verdict(reply(reason=written), ELIGIBLE, KNOWN).reason == shown


def test_an_exact_name_goes_before_one_that_differs_in_case() -> None:
    """Where two models differ in case only, the one that was written counts, also when it may not be chosen."""
    known = (candidate("a", "M"), candidate("a", "m"))
    text = json.dumps({"agent_type": "a", "model": "m"})
    assert read_verdict(text, known, known).candidate is known[1]
    with pytest.raises(VerdictError) as caught:
        read_verdict(text, known[:1], known)
    assert caught.value.problem == "ineligible-candidate"


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
names = st.sampled_from(["alpha", "beta", "big", "small", "wide", "x", ""])


@given(
    st.text(),
    st.fixed_dictionaries(
        {"agent_type": names | json_values, "model": names | json_values},
        optional={"minutes": json_values, "confidence": json_values, "reason": json_values},
    ),
    st.text(),
)
def test_no_reply_names_what_may_not_be_chosen(before: str, fields: dict[str, Any], after: str) -> None:
    """Whatever a reply holds, the result is an eligible candidate with sane numbers, or a VerdictError."""
    try:
        verdict = read_verdict(before + json.dumps(fields) + after, ELIGIBLE, KNOWN)
    except VerdictError:
        return
    assert verdict.candidate in ELIGIBLE
    assert verdict.minutes is None or 0 < verdict.minutes <= MAX_MINUTES
    assert verdict.confidence is None or 0 <= verdict.confidence <= 1


@pytest.mark.parametrize(
    "unit", ['{"', '{"a":', '{"a":1,', '{"x":[{"a":1},', '{    "', '{"\\', "<think>", "</think>", '{"a":"b"}']
)
def test_time_grows_linearly(unit: str) -> None:
    """Eight times the reply takes at most some 64 times as long, and never a tenth of a second: catches rescanning."""

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        times: list[float] = []
        for _ in range(3):
            started = time.process_time()
            with pytest.raises(VerdictError):
                read_verdict(text, ELIGIBLE, KNOWN)
            times.append(time.process_time() - started)
        return min(times)

    long = seconds(REPLY_LIMIT)
    assert long < 64 * max(seconds(REPLY_LIMIT // 8), 1e-4)
    assert long < 0.5
