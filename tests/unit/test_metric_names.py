"""Names, help texts and labels of every metric, by the rules that promtool checks."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.fake_behaviours import status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model
from tests.support.promlint import families, promlint


async def scraped(open_app: OpenApp, fake_endpoint: FakeEndpoint, tmp_path: Path) -> tuple[RunningApp, str]:
    """A service that has decided, failed, been told of an outcome and run an execution; and its metrics."""
    app = await open_app(local_model=with_model(fake_endpoint), executions={"log_dir": str(tmp_path / "logs")})
    fake_endpoint.then(verdict("claude", "opus", usage=(10, 5)), status(500))
    window = {"minutes": 300, "used": 0.4, "resets_at": "2099-01-01T00:00:00Z"}
    await app.decide("a", pools={"anthropic": {"windows": [window]}})
    decision = await app.decide("b")
    pair = {name: decision[name] for name in ("decision_id", "agent_type", "model")}
    assert (await app.client.post("/v1/outcomes", json={**pair, "solved": True})).status_code == 201
    await app.core.learner.catch_up()
    created = (await app.client.post("/v1/executions", json={"instructions": "x"})).json()
    log = f"/v1/executions/{created['execution_id']}/stdout.log?follow=true"
    assert (await app.client.get(log)).status_code == 200
    return app, (await app.client.get("/metrics")).text


async def test_every_name_follows_the_conventions(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    """promtool's rules hold for the metrics of a service that has done a bit of everything."""
    _, text = await scraped(open_app, fake_endpoint, tmp_path)
    assert promlint(text) == []
    assert text.count("# HELP pointsman_") == text.count("# TYPE pointsman_") > 30


async def test_promtool_agrees(open_app: OpenApp, fake_endpoint: FakeEndpoint, tmp_path: Path) -> None:
    """Prometheus's own tool finds nothing either."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool on PATH (Debian: apt-get install prometheus)")
    _, text = await scraped(open_app, fake_endpoint, tmp_path)
    check = [promtool, "check", "metrics"]
    done = await asyncio.to_thread(subprocess.run, check, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_what_an_operator_was_promised_is_there(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    """Each metric that the operator's page speaks of exists, with these labels and no others."""
    _, text = await scraped(open_app, fake_endpoint, tmp_path)
    found = {name: family.labels for name, family in families(text).items()}
    assert {name: found.get(name) for name in EXPECTED} == EXPECTED


EXPECTED: dict[str, set[str]] = {
    "pointsman_build_info": {"version"},
    "pointsman_decisions_total": {"source", "agent_type", "model"},
    "pointsman_decisions_degraded_total": set(),
    "pointsman_decisions_cached_total": set(),
    "pointsman_decisions_waiting": set(),
    "pointsman_decisions_waiting_limit": set(),
    "pointsman_decision_stage_seconds": {"stage"},
    "pointsman_http_request_seconds": {"route"},
    "pointsman_http_requests_total": {"route", "method", "status"},
    "pointsman_problems_total": {"type"},
    "pointsman_classifier_failures_total": {"classifier", "problem"},
    "pointsman_classifier_calls_in_flight": {"classifier"},
    "pointsman_classifier_calls_queued": {"classifier"},
    "pointsman_breaker_state": {"classifier"},
    "pointsman_classifier_disagreement_loss_usd_total": set(),
    "pointsman_quota_window_used_ratio": {"pool", "minutes"},
    "pointsman_quota_window_resets_timestamp_seconds": {"pool", "minutes"},
    "pointsman_classifying_tokens_total": {"direction"},
    "pointsman_classifying_cost_usd_total": set(),
    "pointsman_outcomes_total": {"solved"},
    "pointsman_outcomes_unlinked_total": set(),
    "pointsman_calibration_attempts": {"agent_type", "model", "kind", "failures"},
    "pointsman_calibration_expected": {"agent_type", "model", "kind", "failures"},
    "pointsman_calibration_observed": {"agent_type", "model", "kind", "failures"},
    "pointsman_learned_outcomes": set(),
    "pointsman_forecast_p_solve": {"solved"},
    "pointsman_forecast_squared_error_total": set(),
    "pointsman_forecast_expected_solves_total": {"agent_type", "model"},
    "pointsman_forecast_observed_solves_total": {"agent_type", "model"},
    "pointsman_executions_total": {"state"},
    "pointsman_executions_running": set(),
    "pointsman_executions_queued": set(),
    "pointsman_store_recording": set(),
    "pointsman_store_buffered_decisions": set(),
    "pointsman_store_dropped_decisions_total": set(),
    "pointsman_reload_refused": set(),
    "pointsman_reloads_total": {"result"},
    "pointsman_restart_needed": set(),
}


@pytest.mark.parametrize(
    ("exposition", "problem"),
    [
        pytest.param("# TYPE a_total counter\na_total 1\n", "no help text", id="help"),
        pytest.param("# HELP a x\n# TYPE a counter\na 1\n", "_total", id="counter without total"),
        pytest.param("# HELP a_total x\n# TYPE a_total gauge\na_total 1\n", "_total", id="gauge with total"),
        pytest.param("# HELP a_count x\n# TYPE a_count gauge\na_count 1\n", "_count", id="count"),
        pytest.param("# HELP a_bucket x\n# TYPE a_bucket gauge\na_bucket 1\n", "_bucket", id="bucket"),
        pytest.param('# HELP a x\n# TYPE a gauge\na{le="1"} 1\n', "`le`", id="le"),
        pytest.param('# HELP a x\n# TYPE a gauge\na{quantile="1"} 1\n', "`quantile`", id="quantile"),
        pytest.param("# HELP a_hours x\n# TYPE a_hours gauge\na_hours 1\n", "base unit", id="unit"),
        pytest.param("# HELP a_milliseconds x\n# TYPE a_milliseconds gauge\na_milliseconds 1\n", "base", id="prefix"),
        pytest.param("# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n", "abbreviated", id="abbreviation"),
        pytest.param("# HELP a_gauge x\n# TYPE a_gauge gauge\na_gauge 1\n", "its type", id="type"),
        pytest.param("# HELP a:b x\n# TYPE a:b gauge\na:b 1\n", "colon", id="colon"),
        pytest.param('# HELP a x\n# TYPE a gauge\na{aB="1"} 1\n', "camelCase", id="camel case"),
    ],
)
def test_the_rules_find_what_they_are_for(exposition: str, problem: str) -> None:
    """Each rule names a metric that breaks it, and only that rule does."""
    (found,) = promlint(exposition)
    assert problem in found
