"""Names in a request that the catalog does not have: noted, so that a misspelt limit is seen."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from service.base.text import one_line
from service.contract.catalog import Catalog
from service.contract.decision import Failure
from service.contract.task import Task

MOST = 10
"""Notes of one kind in one place; of more only the number is told, so that answer and record stay small."""

_Name = tuple[str, str | None]
"""An agent, or one of its models, or that at one effort."""


def unknown_names(task: Task, catalog: Catalog) -> list[Failure]:
    """One note for each name in `require.exclude`, `fleet` and `attempts` that the catalog does not have."""
    exclude, attempts = task.require.exclude, task.attempts
    if not (exclude or task.fleet or attempts):
        return []
    pairs = {c.key for c in catalog.candidates}
    agents = {(agent, None) for agent in catalog.agent_types}
    wider = agents | {(c.agent_type, c.model) for c in catalog.candidates}
    places: tuple[tuple[str, Iterable[_Name], AbstractSet[_Name]], ...] = (
        ("$.require.exclude", [one.name for one in exclude], pairs | wider),
        ("$.fleet", [(agent, None) for agent in task.fleet], agents),
        ("$.attempts", [one.key for one in attempts], pairs),
    )
    noted: list[Failure] = []
    for place, names, known in places:
        unknown = {name: number for number, name in reversed(list(enumerate(names))) if name not in known}
        first = sorted(unknown, key=unknown.__getitem__)[:MOST]
        noted += [
            _note(f"{place}.{name[0]}" if place == "$.fleet" else f"{place}[{unknown[name]}]", name, catalog)
            for name in first
        ]
        noted += _more(place, len(unknown), "unknown-agent-type" if place == "$.fleet" else "unknown-pair")
    return noted


def first_of(notes: Sequence[Failure], place: str) -> list[Failure]:
    """The first `MOST` of them, and how many more there are."""
    return [*notes[:MOST], *_more(place, len(notes), notes[0].problem if notes else "")]


def _more(place: str, count: int, problem: str) -> list[Failure]:
    if count <= MOST:
        return []
    return [Failure(source="request", problem=problem, detail=f"{place}: {count - MOST} more of such names")]


def _note(path: str, name: _Name, catalog: Catalog) -> Failure:
    agent, model = name
    if agent in catalog.agent_types and model is not None:
        models = ", ".join(candidate.key[1] for candidate in catalog.candidates if candidate.agent_type == agent)
        says = f"agent {agent!r} has no model {model!r}, but {models}"
    else:
        says = f"no agent {agent!r} in the catalog ({', '.join(catalog.agent_types)})"
    problem = "unknown-agent-type" if model is None else "unknown-pair"
    return Failure(source="request", problem=problem, detail=one_line(f"{path}: {says}", 500))
