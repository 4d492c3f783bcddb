"""Short forms of the load tests: mixed faults for some seconds, and memory over some thousand requests."""

import pytest

from tests.load import memory, soak

pytestmark = pytest.mark.alone


def test_mixed_faults_for_a_while() -> None:
    """Ten seconds of everything at once: no wrong answer, no defect in the log, nothing left running, memory in
    bounds, and a good end. Would catch what no single fault shows: one that spoils the next request's answer."""
    report = soak.run(seconds=10.0, callers=8, seed=7)
    assert report["wrong"] == []
    assert report["defects"] == []
    assert (report["children_left"], report["exit_code"]) == (0, 0)
    assert report["timed"] > 100
    assert report["latest_ms_past_deadline"] < 3000.0, "a guard against hanging, not a measurement"
    assert report["memory_mb"]["end"] - report["memory_mb"]["start"] < 40.0
    assert report["descriptors"]["end"] - report["descriptors"]["start"] < 40


def test_memory_stays_within_bounds() -> None:
    """Thousands of different requests, and bodies without end, leave memory where it was: would catch a cache without a
    bound, a series for each label, a body that is collected before it is refused."""
    parts = memory.run(requests=2000, per_fault=40, at_once=8, faults=["endless-body", "1-gib", "never-answers"])
    assert [part["failed"] for part in parts] == [0] * 4
    assert max(part["grown_mb"] for part in parts) < 48.0
    assert parts[-1]["memory_mb"][-1] - parts[0]["memory_mb"][0] < 96.0
