"""Any request, any reply, any catalog, any settings: what comes out keeps the promises of the contract."""

import asyncio
import json
import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.classifiers.classifier import Blame, Brief, Classified, ClassifierError
from service.classifiers.verdict import VerdictError, read_verdict
from service.contract.catalog import Catalog
from service.contract.catalog_file import parse_catalog
from service.contract.decision import Decision, Usage
from service.contract.decoding import decode_json
from service.contract.errors import (
    ConfigurationError,
    InvalidInputError,
    NoCandidateAvailableError,
    NoEligibleCandidateError,
)
from service.contract.settings import load_settings
from service.contract.task import Task
from service.decide.eligibility import screen
from tests.support.builders import NOW, candidate, knowledge, pipeline, small_catalog
from tests.support.scripted_classifier import ScriptedClassifier

TASK = msgspec.json.Decoder(Task)
PAIRS = [c.key for c in small_catalog().candidates]
AGENTS = sorted({agent for agent, _ in PAIRS})
COSTS = [c.cost_usd for c in small_catalog().candidates if c.cost_usd]
QUIET = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(AGENTS) | st.text(min_size=1, max_size=20)
pairs = st.sampled_from(PAIRS) | st.tuples(names, st.text(min_size=1, max_size=20))
times = st.sampled_from(["2026-01-02T03:04:04Z", "2026-01-02T04:00:00+01:00", "9999-12-31T23:59:59-23:59"])
requests: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"instructions": st.text(min_size=1, max_size=300)},
    optional={
        "name": st.text(max_size=60),
        "labels": st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=4),
        "agent_type": names,
        "require": st.fixed_dictionaries(
            {},
            optional={
                "agent_types": st.lists(names, max_size=4),
                "exclude": st.lists(pairs.map(lambda pair: {"agent_type": pair[0], "model": pair[1]}), max_size=4),
                "inputs": st.lists(st.sampled_from(["text", "image", "audio", "pdf"]), max_size=3),
                "context_tokens": st.integers(0, 2_000_000),
                "local_only": st.booleans(),
                "max_cost_usd": st.floats(0, 2)
                | st.sampled_from([0.0, 0.05, 0.25, 1e308])
                | st.builds(
                    float.__mul__, st.sampled_from(COSTS), st.floats(1.0, 1.5)
                ),  # where a plan's later steps end
            },
        ),
        "fleet": st.dictionaries(
            names,
            st.fixed_dictionaries(
                {},
                optional={
                    "running": st.integers(0, 5),
                    "slots": st.none() | st.integers(0, 5),
                    "available_at": st.none() | times,
                    "quota_left": st.none() | st.floats(0, 1),
                },
            ),
            max_size=4,
        ),
        "attempts": st.lists(
            st.tuples(pairs, st.sampled_from(["failed", "solved", "rate_limited", "error"])).map(
                lambda both: {"agent_type": both[0][0], "model": both[0][1], "result": both[1]}
            ),
            max_size=6,
        ),
        "objective": st.sampled_from(["economy", "balanced", "quality"]),
        "value_usd": st.floats(min_value=1e-12, max_value=1e9),
        "explain": st.booleans(),
    },
)
numbers = st.floats() | st.sampled_from([math.nan, math.inf, -1.0, 0.0, 1.0, 1e308]) | anything
trimmings = st.fixed_dictionaries(
    {}, optional={"minutes": numbers, "confidence": numbers, "reason": anything | st.text(max_size=900)}
)


def _verdicts(pairs_named: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Verdicts for such pairs, which are known ones in most cases: what names nobody is refused at once."""
    named = pairs_named.map(lambda pair: {"agent_type": pair[0], "model": pair[1]})
    return st.tuples(trimmings, named).map(lambda both: {**both[0], **both[1]})


prose = st.text("abc \n`{", max_size=30)
verdicts = _verdicts(st.sampled_from(PAIRS)) | _verdicts(st.sampled_from(PAIRS)) | _verdicts(st.tuples(names, anything))
replies = st.tuples(prose, verdicts.map(json.dumps), prose).map("".join) | st.text(max_size=200)


async def _decide(task: Task, reply: str, catalog: Catalog) -> Decision:
    async def act(brief: Brief, _seconds: float) -> Classified:
        try:
            read = read_verdict(reply, brief.eligible, brief.catalog.candidates)
        except VerdictError as error:
            raise ClassifierError(error.problem, str(error), blame=Blame.REPLY, reply=reply) from None
        return Classified(verdict=read, usage=Usage(), prompt="", reply=reply)

    return await pipeline(ScriptedClassifier(act), known=knowledge(catalog)).decide(task)


def _check(task: Task, decision: Decision, catalog: Catalog) -> None:
    steps = [(step.agent_type, step.model) for step in decision.plan]
    assert steps[0] == (decision.agent_type, decision.model)
    assert len(steps) <= 8
    excluded = {(entry.agent_type, entry.model) for entry in decision.excluded}
    assert excluded.isdisjoint(steps)
    assert excluded | set(steps) <= set(catalog.by_key)
    require = task.require
    again = (
        require.max_cost_usd is not None or screen(catalog, task, now=NOW, cost_usd=lambda c: c.cost_usd or 0.0).again
    )
    for agent, model in steps:
        found = catalog.by_key[agent, model]
        assert require.agent_types is None or agent in require.agent_types
        assert not any(p.agent_type == agent and p.model in {None, model} for p in require.exclude)
        assert set(require.inputs) <= set(found.inputs)
        assert found.local or not require.local_only
        results = [a.result for a in task.attempts if (a.agent_type, a.model) == (agent, model)]
        assert not {"error", "rate_limited"} & set(results)
        assert results.count("failed") + steps.count((agent, model)) <= 1 + again
    if require.max_cost_usd is not None:
        assert all(step.cost_usd <= require.max_cost_usd * (1 + 1e-6) + 1e-9 for step in decision.plan)
    assert 0 < len(decision.reason) <= 500
    assert not {unicodedata.category(c) for c in decision.reason} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    numbers = [decision.p_solve, decision.plan_p_solve, *(step.p_solve for step in decision.plan)]
    assert all(0 <= number <= 1 for number in numbers)
    assert all(math.isfinite(step.cost_usd) and step.cost_usd >= 0 for step in decision.plan)
    assert decision.confidence is None or 0 <= decision.confidence <= 1
    assert decision.degraded == any(failure.source == "local_model" for failure in decision.failures)
    msgspec.json.encode(decision)


@given(fields=requests, reply=replies)
@example({"instructions": "Fix it", "objective": "quality", "require": {"max_cost_usd": 0.25}}, "no verdict")
@QUIET
def test_a_decision_keeps_its_promises(fields: Mapping[str, Any], reply: str) -> None:
    """Whatever is asked and whatever a model answers, nothing ineligible is planned and every number is in its range.

    Would catch: a reply that talks its way past the rules, a plan that breaks a limit in its third step, a NaN.
    """
    catalog = small_catalog()
    task = TASK.decode(msgspec.json.encode(fields))
    try:
        decision = asyncio.run(_decide(task, reply, catalog))
    except (NoEligibleCandidateError, NoCandidateAvailableError) as error:
        refused = {(entry.agent_type, entry.model) for entry in error.excluded}
    else:
        _check(task, decision, catalog)
        return
    assert refused >= set(catalog.by_key)


def _refusal(body: bytes) -> InvalidInputError | None:
    try:
        decode_json(body, TASK)
    except InvalidInputError as error:
        return error
    return None


bodies = (
    st.binary(max_size=300)
    | anything.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=20).map(lambda inside: b'{"instructions":"' + inside + b'"}')
    # msgspec ends its messages like that, and does not mark where a name in them ends
    | st.text(max_size=20).map(lambda text: json.dumps({f"a` - at `${text}": 1}, ensure_ascii=False).encode())
)


@given(body=bodies)
@settings(max_examples=400, deadline=None)
def test_any_body_is_a_task_or_told_what_is_wrong(body: bytes) -> None:
    """Bytes become a task or an InvalidInputError of bounded size: would catch any other exception of a decoder."""
    told = _refusal(body)
    assert told is None or (0 < len(str(told)) < 1500 and str(told).isprintable())


@given(field=st.sampled_from(list(msgspec.structs.fields(Task))), value=anything)
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_field_is_taken_or_named(field: msgspec.structs.FieldInfo, value: object) -> None:
    """One field with any value: a task, or an error whose path begins there (or a rule that spans two fields)."""
    told = _refusal(json.dumps({"instructions": "Fix it", field.name: value}).encode())
    if told is not None:
        assert told.path.startswith(f"$.{field.name}") or "needs `" in str(told) or "JSON" in str(told)


@given(
    entries=st.lists(
        st.tuples(
            st.text("abcXYZ 0-_./", min_size=1, max_size=8),
            st.none() | st.floats(0.001, 0.999),
            st.none() | st.floats(0, 100_000),
            st.booleans(),
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda entry: entry[0],
    ),
    chosen=st.integers(0, 19),
    more=trimmings,
)
@QUIET
def test_any_catalog_decides(
    entries: list[tuple[str, float | None, float | None, bool]], chosen: int, more: dict[str, Any]
) -> None:
    """Candidates with and without figures, of any price: there is a decision, and it keeps its promises.

    Would catch: a candidate without figures, or for nothing, that no forecast can be made of; a NaN as confidence.
    """
    index = chosen % len(entries)
    reply = json.dumps({**more, "agent_type": f"agent{index % 3}", "model": entries[index][0]})
    catalog = Catalog(
        [
            candidate(f"agent{index % 3}", model, solve_rate=rate, cost_usd=cost, local=local)
            for index, (model, rate, cost, local) in enumerate(entries)
        ]
    )
    task = Task(instructions="Fix it")
    _check(task, asyncio.run(_decide(task, reply, catalog)), catalog)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else f"{'-' if value < 0 else ''}inf"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in cast('list[object]', value))}]"
    return str(value)


scalars = st.booleans() | st.integers() | st.floats() | st.text("aZ9 .:/$\\\"'é\n", max_size=12)


@given(
    section=st.sampled_from(["server", "local_model", "cli", "decision", "store", "catalog", "prompts", "executions"]),
    key=st.sampled_from(
        ["port", "token", "endpoint", "model", "timeout_seconds", "command", "deadline_ms", "url", "path", "x"]
    ),
    value=scalars | st.lists(scalars, max_size=3),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_setting_is_taken_or_named(tmp_path: Path, section: str, key: str, value: object) -> None:
    """Any value of any key, known or not: settings, or a ConfigurationError that names the section and not the value of
    a secret."""
    file = tmp_path / "pointsman.toml"
    file.write_text(f"[{section}]\n{key} = {_toml(value)}\n", errors="replace")
    told = ""
    try:
        load_settings(str(file), {})
    except ConfigurationError as error:
        told = str(error)
    assert told == "" or section in told or "not TOML" in told
    if key == "token" and isinstance(value, str) and len(value) > 5:
        assert value not in told


@given(tree=anything)
@settings(max_examples=150, deadline=None)
def test_any_table_is_a_catalog_or_named(tree: object) -> None:
    """A catalog of any shape below `agent` is refused in words that name the file: would catch a KeyError."""
    text = f"agent = [{{type = {_toml(str(tree))}, model = [{{id = {_toml(str(tree))}, solve_rate = {_toml(1.5)}}}]}}]"
    with pytest.raises(ConfigurationError) as caught:
        parse_catalog(text, source="catalog.toml")
    assert "catalog.toml" in str(caught.value)
