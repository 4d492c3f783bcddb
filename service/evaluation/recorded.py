"""Recorded tasks: what each model did on each of them, one JSON object a line."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from service.contract.catalog import Candidate, Catalog
from service.contract.decoding import decode_lines
from service.contract.errors import InvalidInputError
from service.contract.outcome import Outcome
from service.contract.task import Labels, Name

ANY_AGENT = "any"
"""The agent type of a catalog that is made of the tasks' own models."""


class RecordedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """What one model did on one task, and what that cost in US dollars."""

    solved: bool
    cost_usd: Annotated[float, Meta(ge=0, le=100_000)]


class RecordedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task and the recorded outcome of each model that was tried on it, by model id."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    instructions: Annotated[str, Meta(min_length=1, max_length=200_000)]
    outcomes: Annotated[dict[Name, RecordedAttempt], Meta(min_length=1, max_length=1000)]
    name: Annotated[str, Meta(max_length=300)] = ""
    labels: Labels = {}
    difficulty: str | None = None


_DECODER = msgspec.json.Decoder(RecordedTask)


def read_tasks(path: Path, *, limit: int | None = None) -> list[RecordedTask]:
    """The tasks of a file, at most `limit`. Raises InvalidInputError that names file, line and place."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}") from None
    tasks: list[RecordedTask] = []
    for number, task in decode_lines(body, _DECODER):
        if isinstance(task, InvalidInputError):
            raise InvalidInputError(task.expected, path=f"{path}, line {number}: {task.path}")
        tasks.append(task)
        if len(tasks) == limit:
            break
    if not tasks:
        raise InvalidInputError(f"{path}: expected one task a line, found none")
    return tasks


def catalog_of_tasks(tasks: list[RecordedTask]) -> Catalog:
    """One agent type with every model that the tasks name; nothing is known of them, the weakest prior."""
    models = dict.fromkeys(model for task in tasks for model in task.outcomes)
    return Catalog(Candidate(agent_type=ANY_AGENT, model=model) for model in models)


def catalog_for_tasks(catalog: Catalog, tasks: list[RecordedTask]) -> Catalog:
    """The catalog's candidates that the tasks have outcomes of, each model once.

    Raises InvalidInputError where there is none.
    """
    recorded = {model for task in tasks for model in task.outcomes}
    kept: dict[str, Candidate] = {}
    for candidate in catalog.candidates:
        if candidate.model in recorded:
            kept.setdefault(candidate.model, candidate)
    if not kept:
        raise InvalidInputError(
            f"the tasks' models ({', '.join(sorted(recorded)[:20])}) are not in the catalog; "
            "use --catalog-from-tasks, or a catalog that has them"
        )
    return catalog.of(kept.values())


def history_of(tasks: list[RecordedTask], catalog: Catalog) -> list[Outcome]:
    """The recorded outcomes as a scheduler would have reported them; of models outside the catalog none."""
    agents = {candidate.model: candidate.agent_type for candidate in catalog.candidates}
    return [
        Outcome(
            agent_type=agents[model],
            model=model,
            solved=attempt.solved,
            cost_usd=attempt.cost_usd,
            labels=task.labels,
            task_id=task.id,
        )
        for task in tasks
        for model, attempt in task.outcomes.items()
        if model in agents
    ]
