"""The software bill of materials, made from the lock."""

import json
import subprocess
import sys
from functools import cache
from typing import Any

from tests.support.image import ROOT
from tests.support.sbom import locked_names


@cache
def _bill() -> dict[str, Any]:
    done = subprocess.run(
        [ROOT / ".ci/sbom"], capture_output=True, text=True, check=True, timeout=60, env={"PYTHON": sys.executable}
    )
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def test_the_bill_names_what_the_image_installs_with_its_hashes() -> None:
    """Every locked package of Linux, by package URL and SHA-256, and nothing that is for another system."""
    components = _bill()["components"]
    assert {component["name"] for component in components} == locked_names()
    for component in components:
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
        (reference,) = component["externalReferences"]
        assert {entry["alg"] for entry in reference["hashes"]} == {"SHA-256"}
    assert "colorama" not in locked_names(), "that one is for Windows"


def test_the_bill_says_what_it_is_of() -> None:
    """Name, version and licence of pyproject.toml, in a version of CycloneDX that scanners read; no time, no number."""
    bill = _bill()
    root = bill["metadata"]["component"]
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert (root["name"], root["version"], root["type"]) == ("pointsman", "0.1.0", "application")
    assert root["licenses"][0]["license"]["id"] == "Apache-2.0"
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]
