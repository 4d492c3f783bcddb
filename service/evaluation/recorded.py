"""Recorded tasks: what each model did on each of them, one JSON object a line."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from service.contract.catalog import Candidate, Catalog
from service.contract.decoding import decode_lines
from service.contract.errors import InvalidInputError, WrongFileError
from service.contract.kind import CostUsd, Kind, KindId
from service.contract.outcome import Outcome
from service.contract.task import Labels, Name, Pair, Require, Task, pair_named
from service.contract.verifier import Verifier

ANY_AGENT = "any"
"""The agent type of a catalog that is made of the tasks' own models."""


class RecordedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """What one model did on one task, and what that cost in US dollars."""

    solved: bool
    cost_usd: CostUsd


class RecordedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task and the recorded outcome of each model that was tried on it, by model id, agent/model or
    agent/model@effort."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    instructions: Annotated[str, Meta(min_length=1, max_length=200_000)]
    outcomes: Annotated[dict[Name, RecordedAttempt], Meta(max_length=1000)] = {}
    name: Annotated[str, Meta(max_length=300)] = ""
    labels: Labels = {}
    kind: KindId | None = None
    difficulty: str | None = None

    @property
    def kind_told(self) -> str | None:
        """Its kind, which may also stand among its labels."""
        return self.kind or self.labels.get("kind") or None


_DECODER = msgspec.json.Decoder(RecordedTask)


def read_tasks(path: Path, *, limit: int | None = None) -> list[RecordedTask]:
    """The tasks of a file, at most `limit`. Raises WrongFileError that names file, line and place, and OSError."""
    body = path.read_bytes()
    tasks: list[RecordedTask] = []
    for number, task in decode_lines(body, _DECODER):
        if isinstance(task, InvalidInputError):
            raise WrongFileError(task.expected, path=task.path, source=f"{path}, line {number}")
        tasks.append(task)
        if len(tasks) == limit:
            break
    if not tasks:
        raise WrongFileError("expected one task a line, found none", source=str(path))
    return tasks


def catalog_of_tasks(tasks: Sequence[RecordedTask]) -> Catalog:
    """Every model that the tasks name, of one agent type where they name no agent, and the kinds of the tasks; nothing
    is known of them, the weakest prior."""
    names = dict.fromkeys(name for task in tasks for name in task.outcomes)
    kinds = dict.fromkeys(task.kind_told for task in tasks if task.kind_told)
    return Catalog(
        map(_candidate_called, names),
        kinds=[Kind(id=kind) for kind in kinds],
    )


def _candidate_called(name: str) -> Candidate:
    """By `agent/model@effort`, `agent/model` or a bare model id, which may hold an `@` of its own."""
    pair = pair_named(name)
    if not (pair.agent_type and pair.model):
        return Candidate(agent_type=ANY_AGENT, model=name)
    return Candidate(agent_type=pair.agent_type, model=pair.model, effort=pair.effort)


def catalog_for_tasks(catalog: Catalog, tasks: Sequence[RecordedTask]) -> Catalog:
    """The catalog's candidates that the tasks have outcomes of; of a model that they name without an agent or an
    effort, the first.

    Raises InvalidInputError where there is none.
    """
    recorded = {name for task in tasks for name in task.outcomes}
    kept: dict[str, Candidate] = {}
    for candidate in catalog.candidates:
        name = _name(candidate, recorded)
        if name in recorded:
            kept.setdefault(name, candidate)
    if not kept:
        raise InvalidInputError(
            f"the tasks' models ({', '.join(sorted(recorded)[:20])}) are not in the catalog; "
            "use --catalog-from-tasks, or a catalog that has them"
        )
    return catalog.of(kept.values())


class Names:
    """What each candidate is called in tasks: by its model, or by agent/model (and effort) where any task does so."""

    def __init__(self, tasks: Sequence[RecordedTask], catalog: Catalog) -> None:
        recorded = {name for task in tasks for name in task.outcomes}
        self.catalog = catalog
        self.of = {candidate.key: _name(candidate, recorded) for candidate in catalog.candidates}

    def request(self, task: RecordedTask, *, value_usd: float, verifier: Verifier | None = None) -> Task:
        """The task as a scheduler would ask about it, without the candidates that have no outcome of it."""
        missing = [
            Pair(agent_type=one.agent_type, model=one.model, effort=one.effort)
            for one in self.catalog.candidates
            if self.of[one.key] not in task.outcomes
        ]
        return Task(
            name=task.name,
            instructions=task.instructions,
            task_id=task.id,
            labels=task.labels,
            kind=task.kind_told,
            require=Require(exclude=missing),
            value_usd=value_usd,
            verifier=verifier,
        )

    def renamed(self, tasks: Sequence[RecordedTask]) -> list[RecordedTask]:
        """The tasks with these names only, without outcomes of models outside the catalog, and without tasks that then
        have none."""
        found: list[RecordedTask] = []
        for task in tasks:
            outcomes: dict[str, RecordedAttempt] = {}
            for candidate in self.catalog.candidates:
                attempts = (task.outcomes[name] for name in _names(candidate) if name in task.outcomes)
                if (attempt := next(attempts, None)) is not None:
                    outcomes[self.of[candidate.key]] = attempt
            if outcomes:
                found.append(msgspec.structs.replace(task, outcomes=outcomes))
        return found

    def history(self, tasks: Sequence[RecordedTask]) -> list[Outcome]:
        """The recorded outcomes of renamed tasks as a scheduler would have reported them."""
        candidates = {self.of[candidate.key]: candidate for candidate in self.catalog.candidates}
        return [
            Outcome(
                agent_type=candidates[name].agent_type,
                model=candidates[name].model,
                effort=candidates[name].effort,
                solved=attempt.solved,
                cost_usd=attempt.cost_usd,
                labels=task.labels,
                kind=task.kind_told,
                task_id=task.id,
            )
            for task in tasks
            for name, attempt in task.outcomes.items()
        ]


def history_of(tasks: Sequence[RecordedTask], catalog: Catalog) -> list[Outcome]:
    """The recorded outcomes as a scheduler would have reported them; of models outside the catalog none."""
    names = Names(tasks, catalog)
    return names.history(names.renamed(tasks))


def _name(candidate: Candidate, recorded: Container[str]) -> str:
    return next((name for name in _names(candidate) if name in recorded), candidate.model)


def _names(candidate: Candidate) -> tuple[str, str, str]:
    """What tasks may call it, the most exact first."""
    return str(candidate), f"{candidate.agent_type}/{candidate.model}", candidate.model
