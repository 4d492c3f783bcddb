"""The READMEs: short where they begin, complete where they promise to be, and no link that leads nowhere."""

import re
from pathlib import Path

import msgspec
import pytest

from service.cli import COMMANDS
from service.contract.settings import Settings

ROOT = Path(__file__).parents[2]
FILES = ("README.md", "service/README.md", "k8s/README.md", "tests/README.md")
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")


def headings(file: Path) -> set[str]:
    """The anchors that a forge makes of a file's headings."""
    titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_first_one_is_short() -> None:
    """It is read before anything else is known: at most 170 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170


@pytest.mark.parametrize("name", FILES)
def test_every_link_leads_somewhere(name: str) -> None:
    """A file, a folder, or a heading that is there."""
    file = ROOT / name
    links = LINK.findall(file.read_text())
    assert links
    for path, anchor in links:
        target = (file.parent / path) if path else file
        assert target.exists(), path
        assert not anchor or anchor in headings(target), f"{path}#{anchor}"


def test_every_setting_is_explained() -> None:
    """Each key stands in the tables of service/README.md, and no other does."""
    settings = (ROOT / "service/README.md").read_text().partition("## Settings")[2]
    told = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", settings, re.MULTILINE))
    sections = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    known = {f"{name}.{field.name}" for name, section in sections.items() for field in msgspec.structs.fields(section)}
    assert told == known


@pytest.mark.parametrize("name", FILES)
def test_every_command_that_is_shown_exists(name: str) -> None:
    """What is called in a block of code is a command of today."""
    blocks = re.findall(r"^```.*?^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
    called = set(re.findall(r"\bpointsman ([a-z]+)\b", "\n".join(blocks)))
    assert called <= set(COMMANDS)


def test_the_two_lines_of_the_beginning_can_be_pasted() -> None:
    """One line decides and one tests, each from nothing; the second is the one that `.ci/run` looks for."""
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv ")]
    assert [line.rpartition("&& .venv/bin/")[2].split()[0] for line in lines] == ["pointsman", "pytest"]
