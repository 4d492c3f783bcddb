"""The service keeps to its own OpenAPI document, whatever schemathesis makes of that document."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.fake_endpoint import FakeEndpoint
from tests.support.faults import good
from tests.support.http_fixtures import OpenService

TOKEN = "sesame-opens-all"
EXAMPLES = 6

CONFIG = """
[checks]
# 422: nothing in the catalog can take that task, which no schema can tell.
# DELETE cancels an execution or withdraws an outcome: what it came to can still be read.
use_after_free.enabled = false
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422", "5xx"]

# 400: no schema can tell which candidates the catalog has, nor which decisions are on record.
[[operations]]
include-name = ["GET /v1/report", "POST /v1/outcomes"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422", "5xx"]
"""

HOOKS = """
import schemathesis

def whole(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value

@schemathesis.hook
def map_body(context, body):
    # JSON Schema calls 8.0 an integer and has no way to say otherwise; the contract wants 8.
    return whole(body)
"""


def test_the_service_keeps_to_its_own_document(
    open_service: OpenService, fake_endpoint: FakeEndpoint, catalog_file: Path, tmp_path: Path
) -> None:
    """With all checks on nothing is found: examples, boundaries, fuzz and sequences of calls.

    Would catch: a 500, a status or a media type that is not documented, a body against its schema, a bad request that
    is taken, a good one that is not, a token that is not asked for, a method that should not be there.
    """
    fake_endpoint.always(good())
    service = open_service(
        POINTSMAN_SERVER__TOKEN=TOKEN,
        POINTSMAN_SERVER__LOG_LEVEL="warning",
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
        POINTSMAN_LOCAL_MODEL__MODEL="fake-model",
        POINTSMAN_CLI__PRESET="",
        POINTSMAN_CATALOG__PATH=str(catalog_file),
    )
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    (tmp_path / "hooks.py").write_text(HOOKS)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", str(tmp_path / "schemathesis.toml")),
            *("run", f"{service.url}/schema/openapi.json", "--checks", "all", "--max-examples", str(EXAMPLES)),
            *("-H", f"Authorization: Bearer {TOKEN}", "--no-color", "--suppress-health-check", "all"),
            *("--seed", "1"),
        ],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(tmp_path),
            "SCHEMATHESIS_HOOKS": "hooks",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert not [line for line in service.log_lines if line["event"] == "defect"]
