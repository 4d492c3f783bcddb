"""What requirements.txt locks for Linux, read without the tool that makes the bill of materials."""

import re

from packaging.requirements import Requirement

from tests.support.image import ROOT

LINUX = {"sys_platform": "linux", "python_version": "3.12", "python_full_version": "3.12.0"}


def locked_names() -> set[str]:
    """Normalised names of the packages that the image installs."""
    lines = re.findall(r"^([a-z0-9][^\\\n]*)\\$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {
        re.sub(r"[-_.]+", "-", each.name).lower()
        for each in found
        if each.marker is None or each.marker.evaluate(dict(LINUX))
    }
