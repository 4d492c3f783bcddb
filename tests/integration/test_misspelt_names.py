"""Names that the catalog does not have are seen: in `failures` of decisions, in answers to outcomes, in the status."""

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.http_fixtures import OpenService
from tests.support.service_process import pointsman

SECONDS = 20.0
RESETS_AT = "2100-01-01T00:00:00Z"
MISSPELT: Mapping[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "excluded-agent": (
        {"require": {"exclude": [{"agent_type": "cluade"}]}},
        ("unknown-agent-type", "$.require.exclude[0]: no agent 'cluade' in the catalog (claude, gemini)"),
    ),
    "excluded-model": (
        {"require": {"exclude": [{"agent_type": "gemini"}, {"agent_type": "claude", "model": "opsu"}]}},
        ("unknown-pair", "$.require.exclude[1]: agent 'claude' has no model 'opsu', but opus, haiku"),
    ),
    "excluded-both": (
        {"require": {"exclude": [{"agent_type": "cluade", "model": "opus"}]}},
        ("unknown-pair", "$.require.exclude[0]: no agent 'cluade' in the catalog (claude, gemini)"),
    ),
    "fleet": (
        {"fleet": {"cluade": {"running": 3, "slots": 3}}},
        ("unknown-agent-type", "$.fleet.cluade: no agent 'cluade' in the catalog (claude, gemini)"),
    ),
    "attempt": (
        {"attempts": [{"agent_type": "claude", "model": "sonet", "result": "failed"}]},
        ("unknown-pair", "$.attempts[0]: agent 'claude' has no model 'sonet', but opus, haiku"),
    ),
    "pool": (
        {"pools": {"antropic": {"windows": [{"minutes": 300, "used": 1.0, "resets_at": RESETS_AT}]}}},
        ("unknown-pool", "antropic"),
    ),
}


@pytest.fixture
def service_with_three(open_service: OpenService, catalog_file: Path) -> OpenService:
    """Services with three candidates and no classifier."""
    return partial(open_service, POINTSMAN_CATALOG__PATH=str(catalog_file), POINTSMAN_CLI__PRESET="")


def noted(decision: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Source, word and text of each failure."""
    return [(failure["source"], failure["problem"], failure["detail"]) for failure in decision["failures"]]


def test_limits_with_a_misspelt_name_are_noted(service_with_three: OpenService) -> None:
    """Each in its words, with the place; one by one and in a batch; and a decision is made, and not degraded."""
    with service_with_three().client() as client:
        tasks = [{"instructions": "Fix the login", **fields} for fields, _ in MISSPELT.values()]
        single = [client.post("/v1/classify", json=task).json() for task in tasks]
        batch = client.post("/v1/classify/batch", json={"tasks": tasks}).json()["results"]
        shared = {"tasks": [{"instructions": "Fix the login"}], "fleet": MISSPELT["fleet"][0]["fleet"]}
        (through_the_top,) = client.post("/v1/classify/batch", json=shared).json()["results"]
    for (_, (problem, detail)), *decisions in zip(MISSPELT.values(), single, batch, strict=True):
        for decision in decisions:
            ((source, seen, says),) = noted(decision)
            assert (source, seen, decision["degraded"]) == ("request", problem, False)
            assert detail in says
    assert [one[:2] for one in noted(through_the_top)] == [("request", "unknown-agent-type")]


def test_names_that_are_right_are_not_noted(service_with_three: OpenService) -> None:
    """Agents, pairs and pools of the catalog, and an agent whose name is in no limit."""
    right: dict[str, Any] = {
        "instructions": "Fix the login",
        "require": {"exclude": [{"agent_type": "gemini"}, {"agent_type": "claude", "model": "opus"}]},
        "fleet": {"claude": {}, "gemini": {"running": 1}},
        "pools": {"anthropic": {"windows": []}},
        "attempts": [{"agent_type": "gemini", "model": "flash", "result": "failed"}],
    }
    with service_with_three().client() as client:
        decision = client.post("/v1/classify", json=right).json()
    assert (decision["model"], decision["failures"]) == ("haiku", [])


def test_a_refusal_notes_them_too(service_with_three: OpenService) -> None:
    """Where the limits leave nobody, the misspelt ones are named beside those that held."""
    exclude = [{"agent_type": "claude"}, {"agent_type": "gemini"}, {"agent_type": "codx"}]
    with service_with_three().client() as client:
        problem = client.post("/v1/classify", json={"instructions": "x", "require": {"exclude": exclude}}).json()
        wrong = {"agent_type": "claude", "model": "opsu", "require": {"exclude": exclude[2:]}}
        no_model = client.post("/v1/classify", json={"instructions": "x", **wrong}).json()
    for one in (problem, no_model):
        assert one["type"] == "urn:pointsman:no-eligible-candidate"
        assert [failure["problem"] for failure in one["failures"]] == ["unknown-agent-type"]


def test_a_thousand_of_them_make_a_short_answer(service_with_three: OpenService) -> None:
    """A caller that sends a thousand wrong names in each place gets the first of them, and how many more there are."""
    names = ["\x1b[31m" + "n" * 150 + str(number) for number in range(1000)]
    task: dict[str, Any] = {
        "instructions": "Fix the login",
        "require": {"exclude": [{"agent_type": name, "model": name} for name in names]},
        "fleet": {name: {} for name in names},
        "pools": {name: {"windows": []} for name in names},
        "attempts": [{"agent_type": name, "model": name, "result": "failed"} for name in names],
    }
    with service_with_three().client() as client:
        answer = client.post("/v1/classify", json=task)
    failures = noted(answer.json())
    assert len(answer.content) < 40_000
    assert len(failures) <= 4 * 11
    assert sum("990 more" in detail for _, _, detail in failures) == 4
    assert all(detail.isprintable() and len(detail) <= 500 for _, _, detail in failures)


def test_on_the_command_line(bare_environ: Mapping[str, str], catalog_file: Path) -> None:
    """`classify --exclude` and `--request` note them, and people read it too."""
    environ = {**bare_environ, "POINTSMAN_CATALOG__PATH": str(catalog_file), "POINTSMAN_CLI__PRESET": ""}
    ended = pointsman("classify", "--json", "--exclude", "cluade", "Fix the login", environ=environ)
    assert [one[:2] for one in noted(ended.document)] == [("request", "unknown-agent-type")]
    request = json.dumps({"instructions": "Fix the login", **MISSPELT["fleet"][0]})
    shown = pointsman("classify", "--request", "-", environ=environ, stdin=request)
    assert shown.code == 0
    assert "no agent 'cluade' in the catalog" in " ".join((shown.stdout + shown.stderr).split())


def eventually(client: httpx.Client, wanted: list[dict[str, Any]]) -> None:
    """The status lists these unknown pairs, soon."""
    until, seen = time.monotonic() + SECONDS, None
    while time.monotonic() < until:
        seen = client.get("/v1/status").json()["unknown_pairs"]["pairs"]
        if seen == wanted:
            return
        time.sleep(0.05)
    raise AssertionError(f"the status lists {seen}")


def test_outcomes_of_unknown_pairs_are_kept_and_counted(service_with_three: OpenService, tmp_path: Path) -> None:
    """201 with `learned: false`, one by one and in a batch; in the status with counts, after a restart too; gone from
    there once withdrawn."""
    url = f"sqlite:///{tmp_path / 'kept.db'}"
    wrong = {"agent_type": "claude", "model": "opsu", "solved": True}
    other = {"agent_type": "cluade", "model": "opus", "solved": False}
    right = {"agent_type": "claude", "model": "opus", "solved": True}
    with service_with_three(POINTSMAN_STORE__URL=url).client() as client:
        answer = client.post("/v1/outcomes", json=wrong)
        assert (answer.status_code, answer.json()["learned"]) == (201, False)
        known = client.post("/v1/outcomes", json=right)
        assert (known.status_code, list(known.json())) == (201, ["outcome_id"])
        results = client.post("/v1/outcomes/batch", json={"outcomes": [wrong, right, other]}).json()["results"]
        assert [result.get("learned") for result in results] == [False, None, False]
        counts = [
            {"agent_type": "claude", "model": "opsu", "outcomes": 2},
            {"agent_type": "cluade", "model": "opus", "outcomes": 1},
        ]
        eventually(client, counts)
    with service_with_three(POINTSMAN_STORE__URL=url).client() as client:
        eventually(client, counts)
        client.delete(f"/v1/outcomes/{answer.json()['outcome_id']}")
        eventually(client, [{**one, "outcomes": 1} for one in counts])


def test_a_catalog_that_gets_the_pair_takes_it_from_the_list(
    open_service: OpenService, tmp_path: Path, catalog_file: Path
) -> None:
    """Once the operator has added what was missing, its outcomes are learned and the list is empty."""
    right = catalog_file.read_text()
    catalog_file.write_text(right.replace('"flash"', '"flush"'))
    service = open_service(POINTSMAN_CATALOG__PATH=str(catalog_file), POINTSMAN_CLI__PRESET="")
    with service.client() as client:
        outcome = {"agent_type": "gemini", "model": "flash", "solved": True}
        assert client.post("/v1/outcomes", json=outcome).json()["learned"] is False
        eventually(client, [{"agent_type": "gemini", "model": "flash", "outcomes": 1}])
        catalog_file.write_text(right)
        eventually(client, [])


def test_unknown_pairs_take_bounded_memory(service_with_three: OpenService) -> None:
    """Of thousands the most frequent are listed, the others only counted."""
    with service_with_three().client() as client:
        often = [{"agent_type": "often", "model": "m", "solved": True}] * 5
        client.post("/v1/outcomes/batch", json={"outcomes": often})
        for page in range(3):
            many = [{"agent_type": "a" * 150, "model": f"m{page}-{n}", "solved": True} for n in range(1000)]
            assert client.post("/v1/outcomes/batch", json={"outcomes": many}).status_code == 200
        until, listed = time.monotonic() + SECONDS, client.get("/v1/status").json()["unknown_pairs"]
        while time.monotonic() < until and listed["outcomes"] < 3005:
            time.sleep(0.05)
            listed = client.get("/v1/status").json()["unknown_pairs"]
    assert listed["outcomes"] == 3005
    assert len(listed["pairs"]) == 100
    assert listed["pairs"][0] == {"agent_type": "often", "model": "m", "outcomes": 5}


def test_an_import_says_how_many_teach_nothing(
    bare_environ: Mapping[str, str], tmp_path: Path, catalog_file: Path
) -> None:
    """`outcomes import` records them all and names what the catalog does not have."""
    file = tmp_path / "history.jsonl"
    lines = [{"agent_type": "claude", "model": model, "solved": True} for model in ("opus", "opsu", "opsu")]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    environ = {
        **bare_environ,
        "POINTSMAN_CATALOG__PATH": str(catalog_file),
        "POINTSMAN_STORE__URL": f"sqlite:///{tmp_path / 'kept.db'}",
    }
    ended = pointsman("outcomes", "import", str(file), environ=environ)
    assert ended.code == 0
    assert "3 recorded" in ended.stdout
    assert "2 of claude/opsu" in ended.stderr
