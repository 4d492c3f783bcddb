"""The order of the rooms: imports only point down, and each room stands where the design has it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[2] / "service"
ORDER = (
    "cli",
    "commands",
    "app",
    "api",
    "core",
    "observe",
    "evaluation",
    "decide",
    "knowledge",
    "classifiers",
    "executions",
    "forecast",
    "llm",
    "process",
    "store",
    "contract",
    "logs",
    "base",
)
"""From the roof to the ground floor. A room may import itself and whatever stands below it."""

MOST_PARAMETERS = 7
"""Of a constructor, `self` not counted."""

ENTRANCES = {"__init__", "__main__", "cli", "app", "core"}
"""Modules at the root; everything else stands in a room."""


def room_of(module: str) -> str | None:
    """The room of `service.…`; None for the package itself, which has only the version, and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "service" and len(parts) > 1 else None


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and module of each import, wherever it stands: at the top, for types only, or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "service":
            yield from ((node.lineno, f"service.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def upward(room: str, source: str, place: str) -> list[str]:
    """The imports of a module of `room` that point up, each with its place."""
    found: list[str] = []
    for line, module in imported(source):
        other = room_of(module)
        if other in ORDER and ORDER.index(other) < ORDER.index(room):
            found.append(f"{place}:{line} {room} -> {module}")
        if room == "commands" and (other == "api" or (other == "app" and not place.endswith("commands/serve.py"))):
            found.append(f"{place}:{line} {room} -> {module}: only `serve` needs HTTP, and gets it from app")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    """Each module of a room, with the room's name."""
    for file in sorted(SERVICE.rglob("*.py")):
        room = file.relative_to(SERVICE).parts[0].removesuffix(".py")
        if room not in {"__init__", "__main__"}:
            yield room, file


def test_imports_only_point_down() -> None:
    """No module imports a room above its own, not even for types or inside a function."""
    wrong = [
        line
        for room, file in modules()
        for line in upward(room, file.read_text(), str(file.relative_to(SERVICE.parent)))
    ]
    assert wrong == []


def test_every_room_is_known() -> None:
    """The root holds the entrances and the rooms of the list, and each room says in a sentence what it is for."""
    assert {file.stem for file in SERVICE.glob("*.py")} == ENTRANCES
    rooms = {folder.parent.name for folder in SERVICE.glob("*/__init__.py")}
    assert rooms == set(ORDER) - ENTRANCES
    for room in rooms:
        assert ast.get_docstring(ast.parse((SERVICE / room / "__init__.py").read_text())), room


def test_no_constructor_takes_more_than_seven() -> None:
    """Limits and time-outs that belong together come in one struct: a longer list is read by nobody."""
    wrong = [
        f"{file.relative_to(SERVICE.parent)}:{method.lineno} {cls.name}"
        for _, file in modules()
        for cls in ast.walk(ast.parse(file.read_text()))
        if isinstance(cls, ast.ClassDef)
        for method in cls.body
        if isinstance(method, ast.FunctionDef) and method.name == "__init__"
        if len(method.args.args) - 1 + len(method.args.kwonlyargs) > MOST_PARAMETERS
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        pytest.param("store", "from service.decide.pipeline import Pipeline", 1, id="up"),
        pytest.param("store", "import service.decide.pipeline", 1, id="whole module"),
        pytest.param("store", "from service import core", 1, id="from the root"),
        pytest.param("store", "def f():\n    from service.api.edge import Edge", 1, id="inside a function"),
        pytest.param("store", "if TYPE_CHECKING:\n    from service.core import Core", 1, id="types only"),
        pytest.param("commands", "from service.api.answers import json_response", 1, id="command from api"),
        pytest.param("commands", "from service.app import create_app", 1, id="command from app"),
        pytest.param("store", "from service import __version__\nfrom service.store.x import y", 0, id="itself"),
        pytest.param("api", "from service.base.ids import uuid7\nimport decide", 0, id="down"),
    ],
)
def test_what_points_up_is_found(room: str, source: str, found: int) -> None:
    """Each way to write an import is seen; catches a test that would let everything pass."""
    assert len(upward(room, source, f"service/{room}/some.py")) == found
