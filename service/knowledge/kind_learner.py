"""Learns the words of each kind of work from tasks whose kind a caller or a classifier told."""

import asyncio
from dataclasses import replace
from functools import partial

import structlog

from service.base.background import Background
from service.classifiers.kind_text import WordCounts
from service.classifiers.reading import Reader
from service.contract.decision import KindTold
from service.contract.task import Task
from service.knowledge.knowledge import InUse
from service.logs.lines import log_defect

EVERY_SECONDS = 30.0
"""How often what was told is taken into use; making the weights anew takes some 20 ms of another thread."""

CLASSIFIER_WEIGHT = 0.5
"""A classifier's word counts as half a caller's."""


class KindLearner:
    """Counts words in memory: after a start it is told anew. It belongs to one event loop."""

    def __init__(self, in_use: InUse) -> None:
        self._in_use = in_use
        self._counts = WordCounts()
        self._number = 0
        self._used: tuple[int, str] = (0, in_use.knowledge.catalog.version)
        log = structlog.get_logger("pointsman.kinds")
        self.background = Background(self.use, every_seconds=EVERY_SECONDS, defect=partial(log_defect, log))

    def told(self, task: Task, kind: KindTold) -> None:
        """A task was decided as one of that kind. What its own text said teaches nothing, and a task asked again was
        told before."""
        if kind.source == "text" or task.attempts:
            return
        weight = 1.0 if kind.source == "caller" else CLASSIFIER_WEIGHT
        self._counts.add(kind.id, task.name, task.instructions, weight)
        self._number += 1

    async def use(self) -> None:
        """Decides with all that was told from now on."""
        knowledge = self._in_use.knowledge
        now = (self._number, knowledge.catalog.version)
        if self._used == now or not self._number:
            return
        reader = await asyncio.to_thread(Reader.of, knowledge.catalog, self._counts.copy())
        current = self._in_use.knowledge
        if current.catalog is knowledge.catalog:
            self._in_use.knowledge = replace(current, reader=reader)
            self._used = now
