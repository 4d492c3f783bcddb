"""An attempt that was rate limited rests the whole quota pool of its pair, for this task."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.support.http_fixtures import OpenService
from tests.support.service_process import pointsman

OPUS = {"agent_type": "claude", "model": "opus"}
TASK = {"instructions": "Fix the login", "attempts": [{**OPUS, "result": "rate_limited"}]}
"""In the catalog opus and haiku draw on the pool `anthropic`."""
WHY = {
    "opus": "was rate limited at an earlier attempt at this task",
    "haiku": "quota pool anthropic: claude/opus was rate limited at an earlier attempt at this task",
}


def test_over_http_and_in_a_batch(open_service: OpenService, catalog_file: Path) -> None:
    """The other pairs of the pool are excluded with the reason; where there is no other, it is a 503 with Retry-After.

    An error is that of its pair alone.
    """
    with open_service(POINTSMAN_CATALOG__PATH=str(catalog_file), POINTSMAN_CLI__PRESET="").client() as client:
        decisions = [client.post("/v1/classify", json=TASK).json()]
        decisions += client.post("/v1/classify/batch", json={"tasks": [TASK]}).json()["results"]
        refused = client.post("/v1/classify", json={**TASK, "agent_type": "claude"})
        requested = client.post("/v1/classify", json={**TASK, "agent_type": "claude", "model": "haiku"})
        error = {**TASK, "attempts": [{**OPUS, "result": "error"}]}
        of_one = client.post("/v1/classify", json=error).json()
    for decision in decisions:
        assert (decision["agent_type"], decision["failures"]) == ("gemini", [])
        assert {one["model"]: one["why"] for one in decision["excluded"]} == WHY
    for answer in (refused, requested):
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:pointsman:no-candidate-available")
        assert int(answer.headers["Retry-After"]) >= 1
    assert WHY["haiku"] in requested.json()["detail"]
    assert [one["model"] for one in of_one["excluded"]] == ["opus"]


def test_on_the_command_line(bare_environ: Mapping[str, str], catalog_file: Path) -> None:
    """`classify --request` heeds it, and people read why."""
    environ = {**bare_environ, "POINTSMAN_CATALOG__PATH": str(catalog_file), "POINTSMAN_CLI__PRESET": ""}
    ended = pointsman("classify", "--request", "-", environ=environ, stdin=json.dumps(TASK))
    assert ended.code == 0
    assert "gemini / flash" in ended.stdout
    assert f"claude / haiku: {WHY['haiku']}" in " ".join(ended.stdout.split())
