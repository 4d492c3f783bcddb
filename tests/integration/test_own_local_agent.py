"""A catalog's own agent `local`: kept as it is written, and told apart from the one that is registered."""

import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import CATALOG, OpenService
from tests.support.service_process import pointsman

OWN = """
[[agent]]
type = "local"
description = "The scheduler's own runner."
{local}
[[agent.model]]
id = "llama-70b"
solve_rate = 0.3
cost_usd = 0.0
"""
SECONDS = 20.0
PAIR = {"agent_type": "local", "model": "llama-70b"}


def own_catalog(folder: Path, local: str = "local = true") -> str:
    """A file with three hosted candidates and an agent `local` behind them."""
    file = folder / "own.toml"
    file.write_text(CATALOG + OWN.format(local=local))
    return str(file)


def refusal(client: httpx.Client) -> str:
    """Why the newest change of a file was refused, once it was looked at."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        problem = client.get("/v1/status").json()["reload"]["problem"]
        if problem:
            return str(problem)
        time.sleep(0.1)
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize("local", ["local = true", ""], ids=["inside", "not-said"])
def test_without_an_endpoint_it_is_an_agent_like_others(open_service: OpenService, tmp_path: Path, local: str) -> None:
    """A request for exactly that pair gets it, one by one and in a batch: catches one that goes to a hosted model.

    Whether its work stays inside is what the file says.
    """
    service = open_service(POINTSMAN_CATALOG__PATH=own_catalog(tmp_path, local), POINTSMAN_CLI__PRESET="")
    task = {"instructions": "Fix the login", **PAIR}
    with service.client() as client:
        decisions = [client.post("/v1/classify", json=task).json()]
        decisions += client.post("/v1/classify/batch", json={"tasks": [task]}).json()["results"]
        for decision in decisions:
            assert (decision["source"], decision["failures"]) == ("requested", [])
            assert (decision["agent_type"], decision["model"]) == ("local", "llama-70b")
        inside = client.post("/v1/classify", json={**task, "require": {"local_only": True}})
        (agent,) = [one for one in client.get("/v1/catalog").json()["agents"] if one["agent_type"] == "local"]
    assert inside.status_code == (200 if local else 422)
    assert (agent["local"], agent["description"]) == (bool(local), "The scheduler's own runner.")


def test_on_the_command_line(bare_environ: Mapping[str, str], tmp_path: Path) -> None:
    """`classify` and `catalog` know it too."""
    environ = {**bare_environ, "POINTSMAN_CATALOG__PATH": own_catalog(tmp_path), "POINTSMAN_CLI__PRESET": ""}
    asked = ("--agent-type", "local", "--model", "llama-70b", "--local-only", "Fix the login")
    ended = pointsman("classify", "--json", *asked, environ=environ)
    assert (ended.code, ended.document["source"], ended.document["model"]) == (0, "requested", "llama-70b")
    assert "llama-70b" in pointsman("catalog", environ=environ).stdout


@pytest.mark.parametrize("arguments", [("serve", "--port", "0"), ("check",), ("classify", "Fix it"), ("catalog",)])
def test_two_by_that_name_are_refused(
    bare_environ: Mapping[str, str], tmp_path: Path, fake_endpoint: FakeEndpoint, arguments: tuple[str, ...]
) -> None:
    """With an endpoint the name is taken: exit code 2, and file and place are named."""
    file = own_catalog(tmp_path)
    environ = {
        **bare_environ,
        "POINTSMAN_CATALOG__PATH": file,
        "POINTSMAN_CLI__PRESET": "",
        "POINTSMAN_LOCAL_MODEL__ENDPOINT": fake_endpoint.url,
        "POINTSMAN_LOCAL_MODEL__MODEL": "llama-70b",
    }
    ended = pointsman(*arguments, environ=environ)
    assert (ended.code, ended.stdout) == (2, "")
    assert f"{file}: $.agent[2].type: expected another name" in " ".join(ended.stderr.split())
    assert "local_model.endpoint" in ended.stderr


def test_an_endpoint_that_only_decides_leaves_it_the_name(open_service: OpenService, tmp_path: Path) -> None:
    """No agent is registered then, so nothing that becomes of the endpoint is held against the catalog's own."""
    service = open_service(
        POINTSMAN_CATALOG__PATH=own_catalog(tmp_path),
        POINTSMAN_CLI__PRESET="",
        POINTSMAN_LOCAL_MODEL__ENDPOINT="http://127.0.0.1:9/v1",
        POINTSMAN_LOCAL_MODEL__MODEL="m",
        POINTSMAN_LOCAL_MODEL__PROTOCOL="systemone",
    )
    with service.client() as client:
        for _ in range(5):
            decision = client.post("/v1/classify", json={"instructions": "Fix the login", "deadline_ms": 300}).json()
            assert (decision["degraded"], decision["excluded"]) == (True, [])
        asked = client.post("/v1/classify", json={"instructions": "Fix the login", **PAIR}).json()
    assert (asked["source"], asked["model"]) == ("requested", "llama-70b")


def test_a_reload_that_takes_the_name_is_refused(
    open_service: OpenService, tmp_path: Path, fake_endpoint: FakeEndpoint
) -> None:
    """The last good catalog stays, and the status names the place."""
    file = tmp_path / "changing.toml"
    file.write_text(CATALOG)
    service = open_service(
        POINTSMAN_CATALOG__PATH=str(file),
        POINTSMAN_CLI__PRESET="",
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
        POINTSMAN_LOCAL_MODEL__MODEL="fake-model",
    )
    with service.client() as client:
        before = client.get("/v1/status").json()["versions"]["catalog"]
        file.write_text(CATALOG + OWN.format(local=""))
        assert f"{file}: $.agent[2].type: expected another name" in refusal(client)
        asked = client.post("/v1/classify", json={"instructions": "x", "agent_type": "local", "model": "fake-model"})
        assert asked.json()["source"] == "requested"
        assert client.get("/v1/status").json()["versions"]["catalog"] == before
