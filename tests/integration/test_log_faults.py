"""Where its log goes is full, or nobody reads it: decisions are made and answered all the same."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.service_process import ServiceProcess


def _ask(service: ServiceProcess, times: int) -> float:
    """So many decisions with a probe after each; gives the number of log lines that were dropped."""
    with service.client() as client:
        for number in range(times):
            answer = client.post("/v1/classify", json={"instructions": f"Fix page {number}"})
            assert answer.status_code == 200, answer.text
            assert client.get("/healthz").status_code == 200
        metrics = client.get("/metrics").text
    (line,) = [line for line in metrics.splitlines() if line.startswith("pointsman_log_lines_dropped_total ")]
    return float(line.split()[1])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_under_the_log_fails_no_decision(bare_environ: Mapping[str, str]) -> None:
    """Each is a 200, and lines are counted as dropped: would catch a log line that is written inside the request, where
    the error of a full disk made each answer a 500."""
    with ServiceProcess({**bare_environ, "POINTSMAN_CLI__PRESET": ""}, Path("/dev/full")) as service:
        assert _ask(service, 50) > 0
        assert service.stop() == 0


def test_a_log_that_nobody_reads_holds_nothing_up(bare_environ: Mapping[str, str], tmp_path: Path) -> None:
    """Far more lines than a pipe holds, everything is answered, and it ends when it is told to: would catch a log line
    that is written by the event loop, which then stood still, the probes with it."""
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    never_read = os.open(pipe, os.O_RDWR)
    try:
        with ServiceProcess({**bare_environ, "POINTSMAN_CLI__PRESET": ""}, pipe) as service:
            assert _ask(service, 600) == 0, "they wait to be written"
            assert service.stop() == 0
    finally:
        os.close(never_read)
