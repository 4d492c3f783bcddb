"""The scheduler's loops of service/README.md, run as they stand there against a real service."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.support.service_process import ServiceProcess

README = Path(__file__).parents[2] / "service" / "README.md"
CATALOG = """
[[agent]]
type = "codex"
[[agent.model]]
id = "gpt"
effort = "low"
solve_rate = 0.5
cost_usd = 0.1
[[agent.model]]
id = "gpt"
effort = "high"
solve_rate = 0.6
cost_usd = 0.3
[[agent]]
type = "claude"
[[agent.model]]
id = "opus"
solve_rate = 0.8
cost_usd = 0.5
"""
RUN_AGENT = """#!/bin/sh
echo "$1 $2 $3" >> "$CALLS"
[ "$1" = "$SOLVES" ]
"""


def loop(language: str) -> str:
    """The block of that language after the loop's heading."""
    text = README.read_text().partition("### The scheduler's loop")[2]
    found = re.search(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def told(script: str, back_in: float) -> str:
    """The same, where the task says what an hour costs and when agent codex is back."""
    back = (datetime.now(UTC) + timedelta(seconds=back_in)).isoformat()
    more = f'"delay_usd_per_hour": 30, "fleet": {{"codex": {{"available_at": "{back}"}}}}'
    changed = script.replace('"delay_usd_per_hour": 30', more).replace("attempts: []", f"attempts: [], {more}")
    assert changed.count(back) == 1
    return changed


@pytest.mark.parametrize("language", ["python", "sh"])
def test_the_loop_goes_on_until_work_is_accepted(language: str, tmp_path: Path) -> None:
    """It tries what the plan says, one after the other, reports each outcome, and ends with what solved the task."""
    done, calls, outcomes = run(language, tmp_path, solves="claude")
    assert done.returncode == 0, done.stderr
    assert calls[-1] == "claude opus"
    assert sorted(calls[:-1]) == ["codex gpt high", "codex gpt low"][: len(calls) - 1] or calls[:-1] == [
        "codex gpt low"
    ]
    assert [one["solved"] for one in outcomes] == [False] * (len(calls) - 1) + [True]


@pytest.mark.parametrize("language", ["python", "sh"])
def test_the_loop_ends_where_nothing_is_left(language: str, tmp_path: Path) -> None:
    """Three failures of three candidates, and it says so and fails."""
    done, calls, outcomes = run(language, tmp_path, solves="nobody")
    assert done.returncode == 1
    assert len(calls) == len(set(calls)) == len(outcomes)
    assert not any(one["solved"] for one in outcomes)
    assert len(calls) > 1


@pytest.mark.parametrize("language", ["python", "sh"])
def test_the_loop_waits_where_that_is_worth_it(language: str, tmp_path: Path) -> None:
    """Told that the cheaper agent is back in a moment, it waits for that one and asks again."""
    done, calls, outcomes = run(language, tmp_path, solves="codex", codex_back_in=2.5)
    assert done.returncode == 0, done.stderr
    assert calls == ["codex gpt low"]
    assert [one["solved"] for one in outcomes] == [True]


def run(
    language: str, tmp_path: Path, *, solves: str, codex_back_in: float | None = None
) -> tuple["subprocess.CompletedProcess[str]", list[str], list[dict[str, bool]]]:
    """The loop on one task: how it ended, the agents that it started, and the outcomes that the service has. With
    `codex_back_in` seconds, its task says so and what an hour costs."""
    (tmp_path / "catalog.toml").write_text(CATALOG)
    agent = tmp_path / "run-agent"
    agent.write_text(RUN_AGENT)
    agent.chmod(0o755)
    calls = tmp_path / "calls"
    script = tmp_path / "loop"
    environ = {
        "HOME": str(tmp_path),
        "POINTSMAN_CLI__PRESET": "",
        "POINTSMAN_CATALOG__PATH": str(tmp_path / "catalog.toml"),
    }
    with ServiceProcess(environ, tmp_path / "log") as service:
        script.write_text(loop(language) if codex_back_in is None else told(loop(language), codex_back_in))
        done = subprocess.run(
            [sys.executable if language == "python" else "bash", str(script), service.url, "fix the flaky login test"],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "SOLVES": solves},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        decisions = httpx.get(f"{service.url}/v1/decisions").json()["decisions"]
        if codex_back_in is not None:
            assert decisions[-1]["decision"]["dispatch"] == "wait"
        whole = [
            httpx.get(f"{service.url}/v1/decisions/{one['decision']['decision_id']}").json()
            for one in reversed(decisions)
        ]
    outcomes = [outcome["outcome"] for one in whole for outcome in one.get("outcomes", [])]
    return done, calls.read_text().strip().replace(" \n", "\n").splitlines(), outcomes
