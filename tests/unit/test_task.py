"""The request's shape is the contract's."""

from typing import Any

import msgspec
import pytest

from service.contract.outcome import Outcome
from service.contract.task import Task, TaskBatch
from tests.support.builders import task


def test_only_instructions_are_needed() -> None:
    """Every other field has the contract's default."""
    plain = task(instructions="x")
    assert (plain.name, plain.task_id, plain.labels, plain.fleet, plain.attempts) == ("", None, {}, {}, [])
    assert (plain.objective, plain.value_usd, plain.deadline_ms) == (None, None, None)
    assert (plain.strict, plain.explain) == (False, False)
    assert plain.require.agent_types is None
    assert not plain.require.local_only


def test_every_field_of_the_contract_is_taken() -> None:
    """A request that uses all of it is read as it was written."""
    full: dict[str, Any] = {
        "instructions": "x",
        "name": "n",
        "task_id": "7",
        "labels": {"repo": "django"},
        "agent_type": "claude",
        "model": "opus",
        "require": {
            "agent_types": ["claude"],
            "exclude": [{"agent_type": "gemini"}, {"agent_type": "codex", "model": "gpt-5"}],
            "inputs": ["text", "image", "audio", "pdf"],
            "context_tokens": 1000,
            "local_only": True,
            "max_cost_usd": 0.5,
        },
        "fleet": {
            "claude": {"running": 1, "slots": None, "available_at": None, "quota_left": None},
            "codex": {"running": 0, "slots": 4, "available_at": "2026-01-02T03:04:05Z", "quota_left": 0.25},
        },
        "attempts": [
            {"agent_type": "a", "model": "m", "result": result}
            for result in ("failed", "solved", "rate_limited", "error")
        ],
        "objective": "economy",
        "value_usd": 3,
        "deadline_ms": 20,
        "strict": True,
        "explain": True,
    }
    read = task(**full)
    assert read.require.exclude[0].model is None
    assert read.fleet["codex"].quota_left == 0.25
    assert [attempt.result for attempt in read.attempts] == ["failed", "solved", "rate_limited", "error"]


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "x" * 200_000},
        {"name": "n" * 300},
        {"labels": {str(i): "v" for i in range(32)}},
        {"deadline_ms": 600_000},
        {"value_usd": 1e-9},
        {"require": {"agent_types": []}},
        {"instructions": "\x00\u202e\u200b"},
        {"fleet": {"x": {"available_at": "9999-12-31T23:59:59-12:00"}}},
    ],
    ids=["instructions", "name", "labels", "deadline", "value", "nothing-allowed", "hidden-text", "end-of-time"],
)
def test_what_is_just_within_the_limits_is_taken(fields: dict[str, Any]) -> None:
    """The contract's limits are inclusive."""
    assert task(**fields).instructions


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "n" * 301},
        {"task_id": "n" * 201},
        {"fleet": {"x": {"available_at": "2026-01-02T03:04:05"}}},
        {"fleet": {"x": {"quota_left": 1.1}}},
        {"fleet": {"x": {"running": -1}}},
        {"require": {"inputs": ["video"]}},
        {"objective": "cheap"},
        {"strict": "true"},
        {"deadline_ms": 500.5},
        {"model": "m"},
    ],
    ids=["name", "task-id", "no-zone", "quota", "running", "input", "objective", "bool", "float", "model-alone"],
)
def test_what_is_outside_the_limits_is_refused(fields: dict[str, Any]) -> None:
    """A wrong type or a value out of range is never bent into shape."""
    with pytest.raises(msgspec.ValidationError):
        task(**fields)


def test_defaults_are_not_shared_between_tasks() -> None:
    """Two tasks never share a list or an object that one of them could change."""
    first, second = task(), task()
    assert first.labels is not second.labels
    assert first.attempts is not second.attempts
    assert first.fleet is not second.fleet


def test_a_batch_leaves_its_tasks_undecoded() -> None:
    """A bad task in a batch does not fail the batch, for it is not even read yet; 0 and 101 tasks do."""
    batch = msgspec.json.decode(b'{"tasks": [{"nonsense": 1}, 7], "deadline_ms": 100}', type=TaskBatch)
    assert [bytes(raw) for raw in batch.tasks] == [b'{"nonsense": 1}', b"7"]
    for count in (0, 101):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode({"tasks": [1] * count}), type=TaskBatch)


@pytest.mark.parametrize(
    "fields",
    [{"solved": "true"}, {"cost_usd": -1}, {"cost_usd": 100_001}, {"attempt": 0}, {"tokens_in": 1.5}, {"extra": 1}],
    ids=["solved", "negative-cost", "absurd-cost", "attempt", "tokens", "unknown"],
)
def test_an_outcome_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    """An outcome is checked as strictly as a task."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"agent_type": "a", "model": "m", "solved": True, **fields}, Outcome)


def test_a_task_cannot_be_changed() -> None:
    """Requests are shared between those who ask for the same, so nobody may change one."""
    with pytest.raises(AttributeError):
        task().strict = True  # type: ignore[misc]  # that it is frozen is what is tested
    assert isinstance(task(), Task)
