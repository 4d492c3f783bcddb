"""`POST /v1/classify` and `/v1/classify/batch`."""

import asyncio
import time

import msgspec
import structlog

from service.api.caller import Caller
from service.api.posting import Answer, Headers, Posted, decode_item, posting
from service.contract.decision import Decision
from service.contract.decoding import decode_json
from service.contract.errors import PointsmanError
from service.contract.items import decode_batch
from service.contract.problem import Problem, problem_of
from service.contract.task import Task, TaskBatch
from service.decide.pipeline import Decide
from service.decide.sharing import CallerLeftError
from service.logs.lines import log_defect
from service.observe.metrics import Metrics

NOBODY_READS = Answer(b"", 499)
"""For the log and the metrics only; 499 is nginx's number for a client that closed its request."""

TASKS_IN_A_ROW = 4
"""Of a batch, before whoever else is there: 100 long tasks without a pause keep the event loop for 90 ms."""

_LOG = structlog.get_logger("pointsman.http")
_TASK = msgspec.json.Decoder(Task)
_BATCH = msgspec.json.Decoder(TaskBatch)


class ClassifyRoutes:
    """One task, or up to a hundred that share a deadline."""

    def __init__(self, decide: Decide, metrics: Metrics, *, max_body_bytes: int) -> None:
        self._decide = decide
        self._metrics = metrics
        self.handlers = [
            posting("/v1/classify", self.classify, max_body_bytes),
            posting("/v1/classify/batch", self.classify_batch, max_body_bytes),
        ]

    async def classify(self, posted: Posted) -> Answer:
        arrived = time.monotonic()
        task = decode_json(posted.take(), _TASK)
        with Caller(posted.receive) as caller:
            try:
                decision = await self._decide(task, arrived=arrived, left=caller.left)
            except CallerLeftError:
                return NOBODY_READS
        return Answer(bytes(decision.document), headers=_facts(decision))

    async def classify_batch(self, posted: Posted) -> Answer:
        arrived = time.monotonic()
        batch = decode_batch(posted.take(), _BATCH, "tasks")
        with Caller(posted.receive) as caller:

            async def one(index: int, raw: msgspec.Raw) -> Decision | Problem:
                for _ in range(index // TASKS_IN_A_ROW):
                    await asyncio.sleep(0)  # others have their turn in between
                try:
                    task = _with_shared(decode_item(raw, _TASK, f"$.tasks[{index}]"), batch)
                    return await self._decide(task, arrived=arrived, left=caller.left)
                except CallerLeftError:
                    raise  # it holds for all of them
                except PointsmanError as error:
                    problem = problem_of(error, request_id=posted.request_id)
                except Exception as error:  # noqa: BLE001 - a defect met by one task must not fail its neighbours
                    log_defect(_LOG, error, index=index)
                    problem = problem_of(error, request_id=posted.request_id)
                return self._metrics.answered(problem)

            try:
                results = await asyncio.gather(*(one(index, raw) for index, raw in enumerate(batch.tasks)))
            except CallerLeftError:
                return NOBODY_READS
        return Answer.of({"results": results})


def _facts(decision: Decision) -> Headers:
    """Those that matter to a shell script."""
    return (
        (b"x-decision-id", decision.decision_id.encode()),
        (b"x-decision-source", decision.source.encode()),
        (b"x-decision-degraded", b"true" if decision.degraded else b"false"),
    )


_SHARED = ("fleet", "pools", "objective", "delay_usd_per_hour", "verifier", "deadline_ms")


def _with_shared(task: Task, batch: TaskBatch) -> Task:
    """What stands at the top of the batch holds for each task that does not say otherwise."""
    shared = {name: getattr(batch, name) for name in _SHARED}
    changes = {name: value for name, value in shared.items() if value is not None and getattr(task, name) in (None, {})}
    return msgspec.structs.replace(task, **changes) if changes else task
