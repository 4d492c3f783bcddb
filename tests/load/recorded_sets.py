"""Recorded tasks together with a catalog of the candidates that were tried on them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from service.contract.catalog import Candidate, Catalog
from service.contract.kind import Figures, Kind
from service.contract.task import Key
from service.evaluation.recorded import Names, RecordedTask, read_tasks
from tests.load.kinds_quality import LEFT_OUT
from tests.load.kinds_quality import SETS as PAIRS
from tests.support.recorded_tasks import Recorded

SETS = ("swe-bench", "ten", "shipped")
"""Twelve models on SWE-bench tasks, with their published rates and costs; ten pairs of the OpenHands index and the nine
nearest to those of the shipped catalog, with the figures published by kind."""


@dataclass(frozen=True, slots=True)
class RecordedSet:
    """Tasks with the outcomes of the catalog's candidates only, each at least of one."""

    name: str
    tasks: list[RecordedTask]
    catalog: Catalog
    called: dict[Key, str]
    """What each candidate is called in the tasks' outcomes."""

    @classmethod
    def of(cls, name: str, tasks: Sequence[RecordedTask], catalog: Catalog) -> "RecordedSet":
        """Without the tasks that nobody of the catalog was tried on."""
        names = Names(tasks, catalog)
        return cls(name, names.renamed(tasks), catalog, names.of)


@lru_cache
def recorded_set(name: str, directory: Path) -> RecordedSet:
    """One of SETS."""
    if name == "swe-bench":
        return RecordedSet.of(
            name, read_tasks(directory / "swebench_dev.jsonl"), Recorded.load(directory).catalog(directory)
        )
    read = read_tasks(directory / "openhands_dev.jsonl")
    tasks = [task for task in read if task.kind_told not in LEFT_OUT]
    return RecordedSet.of(name, tasks, published_catalog(directory, PAIRS[name]))


def published_catalog(directory: Path, pairs: Sequence[str]) -> Catalog:
    """With the index's figures by kind; beside the model stand those of issues, as in the catalog that ships."""
    published = json.loads((directory / "published_kinds.json").read_text(encoding="utf-8"))
    kinds = [kind for kind in published["kinds"] if kind not in LEFT_OUT]
    candidates: list[Candidate] = []
    for pair in pairs:
        agent, _, model = pair.partition("/")
        figures = {kind: _figures(published["pairs"][pair][kind]) for kind in kinds}
        issue = figures["issue"]
        candidates.append(
            Candidate(
                agent_type=agent, model=model, solve_rate=issue.solve_rate, cost_usd=issue.cost_usd, kinds=figures
            )
        )
    return Catalog(candidates, kinds=[Kind(id=kind) for kind in kinds])


def _figures(told: dict[str, Any]) -> Figures:
    return Figures(solve_rate=told["solve_rate"], cost_usd=told["mean_cost_usd"])
