"""The base's one pod, replaced: because it hangs, as the kubelet finds out by the probes, and by an update."""

import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.support.fake_behaviours import slow, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.kustomize import K8S, build, container, one
from tests.support.service_process import ServiceProcess
from tests.support.tell_fixtures import Tell

SCALE = 0.1
"""Seconds of the manifest are tenths of one here; starting takes what it takes."""


class Kubelet:
    """Keeps one container running by its probes: kills what fails its liveness, and starts it anew."""

    def __init__(self, spec: Mapping[str, Any], environ: Mapping[str, str], folder: Path) -> None:
        self._probe = spec["livenessProbe"]
        self._environ = environ
        self._folder = folder

    def process(self, name: str) -> ServiceProcess:
        """A new one; ready once it is entered."""
        return ServiceProcess(self._environ, self._folder / f"{name}.log")

    def wait_until_failed(self, process: ServiceProcess) -> None:
        """Returns after so many failures in a row as the probe allows."""
        failures = 0
        with httpx.Client(trust_env=False, timeout=self._probe["timeoutSeconds"] * SCALE) as client:
            while failures < self._probe["failureThreshold"]:
                began = time.monotonic()
                try:
                    failures = 0 if client.get(f"{process.url}/healthz").status_code < 400 else failures + 1
                except httpx.TransportError:
                    failures += 1
                time.sleep(max(0.0, began + self._probe["periodSeconds"] * SCALE - time.monotonic()))

    def end(self, process: ServiceProcess) -> None:
        """SIGTERM, and SIGKILL once the probe's own grace period is over."""
        process.signal()
        deadline = time.monotonic() + self._probe["terminationGracePeriodSeconds"] * SCALE
        while process.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.process.poll() is None:
            process.signal(signal.SIGKILL)
        process.wait()


def test_a_process_that_hangs_is_replaced_within_40_seconds(
    bare_environ: Mapping[str, str], tmp_path: Path, tell: Tell
) -> None:
    """It answers nothing and hears no SIGTERM; by the manifest's figures the next is ready 40 s after it stopped."""
    kubelet = Kubelet(container(one(build("base"), "Deployment")["spec"]["template"]), bare_environ, tmp_path)
    with kubelet.process("hangs") as hangs:
        hangs.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        kubelet.wait_until_failed(hangs)
        kubelet.end(hangs)
        ended = time.monotonic()
        with kubelet.process("next"):
            started = time.monotonic()
    seconds = (ended - stopped) / SCALE + (started - ended)
    tell(f"a hung process is replaced after {seconds:.1f} s, {started - ended:.1f} s of it to start")
    assert seconds < 40


def test_an_update_of_the_one_pod_leaves_a_gap_of_its_end_and_a_start(
    bare_environ: Mapping[str, str], tmp_path: Path, tell: Tell
) -> None:
    """With the base's own settings: what is under way at SIGTERM is answered, nothing waits for a pod that could take
    over, and the next one starts when this one has ended. It knows what the first was told.
    """
    settings = tmp_path / "pointsman.toml"
    text = (K8S / "base/pointsman.toml").read_text()
    settings.write_text(text[: text.index("[catalog]")])
    with FakeEndpoint() as fake:
        fake.always(slow(verdict("claude", "claude-opus-4-5"), 1.0))
        environ = {
            **bare_environ,
            "POINTSMAN_CONFIG": str(settings),
            "POINTSMAN_SERVER__HOST": "127.0.0.1",
            "POINTSMAN_STORE__URL": f"sqlite:///{tmp_path}/pointsman.db",
            "POINTSMAN_LOCAL_MODEL__ENDPOINT": fake.url,
            "POINTSMAN_LOCAL_MODEL__MODEL": "fake-model",
        }
        with ServiceProcess(environ, tmp_path / "old.log") as old, old.client() as client:
            told = client.post("/v1/outcomes", json={"agent_type": "codex", "model": "gpt-5-mini", "solved": True})
            answers: list[httpx.Response] = []
            caller = threading.Thread(
                target=lambda: answers.append(client.post("/v1/classify", json={"instructions": "Fix the login."}))
            )
            caller.start()
            fake.wait_for(lambda seen: len(seen.chats) == 1)
            began = time.monotonic()
            old.signal()
            assert old.wait() == 0
            ended = time.monotonic()
            caller.join(10)
        with ServiceProcess(environ, tmp_path / "new.log") as new, new.client() as client:
            ready = time.monotonic()
            assert client.delete(f"/v1/outcomes/{told.json()['outcome_id']}").status_code < 300
    assert [answer.status_code for answer in answers] == [200]
    tell(
        f"an update's gap: {ready - began:.1f} s, {ended - began:.1f} s of it for an answer under way, "
        f"{ready - ended:.1f} s to start"
    )
    assert ended - began < 4, "one second for the answer that was under way, and some for a busy machine"
