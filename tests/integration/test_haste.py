"""How little time is too little is learned: callers in haste, and classifiers that are quick, slow, or hang."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fake_behaviours import hang, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenService, with_model
from tests.support.service_process import ServiceProcess, pointsman

ANSWER = json.dumps({"agent_type": "claude", "model": "haiku", "minutes": 30})


class Program:
    """A program that answers after some seconds; each start leaves a line."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._starts = folder / "starts"
        self._starts.touch()
        self.file = folder / "program.sh"
        self.file.write_text(
            f"#!/bin/sh\necho x >> {self._starts}\ncat > /dev/null\nsleep {seconds}\necho '{ANSWER}'\n"
        )
        self.file.chmod(0o700)

    @property
    def starts(self) -> int:
        """How often it was started so far."""
        return len(self._starts.read_text().splitlines())


Serve = Callable[..., ServiceProcess]


@pytest.fixture
def serve(open_service: OpenService, catalog_file: Path) -> Serve:
    """Services with three candidates."""
    return partial(open_service, POINTSMAN_CATALOG__PATH=str(catalog_file), POINTSMAN_CLI__PRESET="")


def decide(client: httpx.Client, text: str, deadline_ms: int) -> dict[str, Any]:
    """The decision about a task of that text."""
    decision: dict[str, Any] = client.post(
        "/v1/classify", json={"instructions": text, "deadline_ms": deadline_ms}
    ).json()
    return decision


def problems(decision: Mapping[str, Any]) -> list[str]:
    """The short words of its failures."""
    return [failure["problem"] for failure in decision["failures"]]


def breaker(client: httpx.Client) -> str:
    """The state of the only classifier's breaker."""
    (classifier,) = client.get("/v1/status").json()["classifiers"]
    return str(classifier["breaker"]["state"])


def test_a_quick_program_is_asked_by_callers_in_haste(
    serve: Serve, tmp_path: Path, bare_environ: Mapping[str, str], catalog_file: Path
) -> None:
    """A program that answers at once is asked by a caller with 800 ms, be it the first one, in a batch, or on the
    command line: catches a fixed time below which no program is asked."""
    program = Program(tmp_path, 0)
    environ = {"POINTSMAN_CLI__COMMAND": json.dumps([str(program.file)])}
    with serve(**environ).client() as client:
        assert decide(client, "first", 800)["source"] == "cli"
        tasks = [{"instructions": "second"}]
        (decision,) = client.post("/v1/classify/batch", json={"tasks": tasks, "deadline_ms": 800}).json()["results"]
        assert decision["source"] == "cli"
    environ |= {**bare_environ, "POINTSMAN_CATALOG__PATH": str(catalog_file)}
    ended = pointsman("classify", "--json", "--deadline-ms", "800", "third", environ=environ)
    assert ended.document["source"] == "cli"


def test_a_slow_program_is_not_asked_by_callers_in_haste(serve: Serve, tmp_path: Path) -> None:
    """Once it is known to take two seconds, callers with one are answered at once by the forecast, but for a probe now
    and then; and nothing of it is held against the program."""
    program = Program(tmp_path, 2)
    with serve(POINTSMAN_CLI__COMMAND=json.dumps([str(program.file)])).client() as client:
        assert decide(client, "patient", 30_000)["source"] == "cli"
        hasty = [decide(client, f"hasty {number}", 1_000) for number in range(30)]
        tasks = [{"instructions": f"in a batch {number}"} for number in range(30)]
        hasty += client.post("/v1/classify/batch", json={"tasks": tasks, "deadline_ms": 1_000}).json()["results"]
        assert {decision["source"] for decision in hasty} == {"forecast"}
        refused = [decision for decision in hasty if problems(decision) == ["no-time"]]
        assert len(refused) >= 56
        assert "it has not answered in less than 2" in refused[0]["failures"][0]["detail"]
        assert program.starts <= 1 + 4
        assert breaker(client) == "closed"
        assert decide(client, "patient again", 30_000)["source"] == "cli"


@pytest.mark.parametrize("learned", [False, True], ids=["from-the-start", "after-good-answers"])
def test_an_endpoint_that_hangs_opens_its_breaker_for_callers_in_haste(
    serve: Serve, fake_endpoint: FakeEndpoint, learned: bool
) -> None:
    """Where every caller has only 200 ms it is left alone soon; a caller with more time still asks it, and its answer
    lets all others in again. Catches callers who wait in vain for ever, and callers in haste who shut out the others.
    """
    fake_endpoint.always(verdict("claude", "haiku"))
    section = with_model(fake_endpoint)
    service = serve(POINTSMAN_LOCAL_MODEL__ENDPOINT=section["endpoint"], POINTSMAN_LOCAL_MODEL__MODEL=section["model"])
    with service.client() as client:
        if learned:
            assert decide(client, "good", 5_000)["source"] == "local_model"
        fake_endpoint.always(hang())
        hasty = [decide(client, f"hasty {number}", 200) for number in range(10)]
        assert {decision["source"] for decision in hasty} == {"forecast"}
        assert breaker(client) == "open"
        assert problems(hasty[0]) == ["timeout"]
        assert problems(hasty[-1]) == ["resting"]
        fake_endpoint.always(verdict("claude", "haiku"))
        assert decide(client, "patient", 5_000)["source"] == "local_model"
        assert breaker(client) == "closed"


def test_a_batch_in_haste_opens_it_too(serve: Serve, fake_endpoint: FakeEndpoint) -> None:
    """A batch whose tasks share 300 ms meets a hanging endpoint as a row of callers does."""
    fake_endpoint.always(hang())
    section = with_model(fake_endpoint)
    service = serve(POINTSMAN_LOCAL_MODEL__ENDPOINT=section["endpoint"], POINTSMAN_LOCAL_MODEL__MODEL=section["model"])
    with service.client() as client:
        for batch in range(2):
            tasks = [{"instructions": f"task {batch} {number}"} for number in range(4)]
            client.post("/v1/classify/batch", json={"tasks": tasks, "deadline_ms": 300})
        assert breaker(client) == "open"
