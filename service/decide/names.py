"""Names in a request that the catalog does not have: noted, so that a misspelt limit is seen."""

from collections.abc import Iterable, Sequence

from service.base.text import one_line
from service.contract.catalog import Catalog
from service.contract.decision import Failure
from service.contract.task import Task

MOST = 10
"""Notes of one kind in one place; of more only the number is told, so that answer and record stay small."""

_Named = tuple[str, str, str | None]
"""Where it stands, and the agent and model that stand there."""


def unknown_names(task: Task, catalog: Catalog) -> list[Failure]:
    """One note for each name in `require.exclude`, `fleet` and `attempts` that the catalog does not have."""
    exclude, attempts = task.require.exclude, task.attempts
    if not (exclude or task.fleet or attempts):
        return []
    places: dict[str, list[_Named]] = {
        "$.require.exclude": [
            (f"$.require.exclude[{i}]", pair.agent_type, pair.model) for i, pair in enumerate(exclude)
        ],
        "$.fleet": [(f"$.fleet.{agent}", agent, None) for agent in task.fleet],
        "$.attempts": [(f"$.attempts[{i}]", one.agent_type, one.model) for i, one in enumerate(attempts)],
    }
    noted: list[Failure] = []
    for place, named in places.items():
        unknown = _unknown(named, catalog)
        noted += [_note(*one, catalog) for one in unknown[:MOST]]
        noted += _more(place, len(unknown), "unknown-pair")
    return noted


def first_of(notes: Sequence[Failure], place: str) -> list[Failure]:
    """The first `MOST` of them, and how many more there are."""
    return [*notes[:MOST], *_more(place, len(notes), notes[0].problem if notes else "")]


def _more(place: str, count: int, problem: str) -> list[Failure]:
    if count <= MOST:
        return []
    return [Failure(source="request", problem=problem, detail=f"{place}: {count - MOST} more of such names")]


def _unknown(named: Iterable[_Named], catalog: Catalog) -> list[_Named]:
    """Each that is not in the catalog, once."""
    agents = frozenset(catalog.agent_types)
    found: dict[tuple[str, str | None], _Named] = {}
    for path, agent, model in named:
        known = agent in agents if model is None else (agent, model) in catalog.by_key
        if not known:
            found.setdefault((agent, model), (path, agent, model))
    return list(found.values())


def _note(path: str, agent: str, model: str | None, catalog: Catalog) -> Failure:
    if agent in catalog.agent_types:
        models = ", ".join(candidate.model for candidate in catalog.candidates if candidate.agent_type == agent)
        says = f"agent {agent!r} has no model {model!r}, but {models}"
    else:
        says = f"no agent {agent!r} in the catalog ({', '.join(catalog.agent_types)})"
    problem = "unknown-agent-type" if model is None else "unknown-pair"
    return Failure(source="request", problem=problem, detail=one_line(f"{path}: {says}", 500))
