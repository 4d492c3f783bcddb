"""`POST /v1/classify` and `/v1/classify/batch`."""

import asyncio
from typing import Any, Self

import msgspec
import structlog
from litestar.types import Receive

from service.api.posting import Answer, Headers, Posted, posting
from service.api.problems import problem_of
from service.contract.decision import Decision
from service.contract.decoding import decode_json
from service.contract.errors import InvalidInputError, PointsmanError
from service.contract.problem import Problem
from service.contract.task import FleetState, Objective, Task, TaskBatch
from service.core import Core
from service.decide.sharing import CallerLeftError
from service.logs.lines import log_defect

_LOG = structlog.get_logger("pointsman.http")
_TASK = msgspec.json.Decoder(Task)
_BATCH = msgspec.json.Decoder(TaskBatch)


def classify_routes(core: Core) -> list[Any]:
    """The handlers, around the pipeline of `core`."""

    limit = core.settings.server.max_body_bytes

    @posting("/v1/classify", max_body_bytes=limit)
    async def classify(posted: Posted) -> Answer:
        arrived = core.clock()
        task = decode_json(posted.take(), _TASK)
        with Caller(posted.receive) as caller:
            try:
                decision = await core.decide(task, arrived=arrived, left=caller.left)
            except CallerLeftError:
                return NOBODY_READS
        return Answer(bytes(decision.document), headers=decision_headers(decision))

    @posting("/v1/classify/batch", max_body_bytes=limit)
    async def classify_batch(posted: Posted) -> Answer:
        arrived = core.clock()
        batch = decode_json(posted.take(), _BATCH)
        with Caller(posted.receive) as caller:

            async def one(index: int, raw: msgspec.Raw) -> Decision | Problem:
                for _ in range(index // TASKS_IN_A_ROW):
                    await asyncio.sleep(0)  # others have their turn in between
                return await _one(core, raw, index, batch, arrived, caller, posted.request_id)

            try:
                results = await asyncio.gather(*(one(index, raw) for index, raw in enumerate(batch.tasks)))
            except CallerLeftError:
                return NOBODY_READS
        return Answer.of({"results": results})

    return [classify, classify_batch]


def decision_headers(decision: Decision) -> Headers:
    """The facts that matter to a shell script."""
    return (
        (b"x-decision-id", decision.decision_id.encode()),
        (b"x-decision-source", decision.source.encode()),
        (b"x-decision-degraded", b"true" if decision.degraded else b"false"),
    )


NOBODY_READS = Answer(b"", 499)
"""For the log and the metrics only; 499 is nginx's number for a client that closed its request."""


TASKS_IN_A_ROW = 4
"""Of a batch, before whoever else is there: 100 long tasks without a pause keep the event loop for 90 ms."""

LISTEN_AFTER_SECONDS = 0.02
"""Most answers that take less are there before anybody could have gone; listening costs as much as half a decision."""


class Caller:
    """Whoever sent the request. Nothing is listened for until `left` was called and a moment has passed."""

    def __init__(self, receive: Receive) -> None:
        """`receive` is asked once the body was read to its end."""
        self._receive = receive
        self._left: asyncio.Future[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._listening: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stops listening."""
        if self._later is not None:
            self._later.cancel()
        if self._listening is not None:
            self._listening.cancel()

    def left(self) -> "asyncio.Future[None]":
        """Done as soon as the connection is closed; the same for all tasks of a batch."""
        if self._left is None:
            loop = asyncio.get_running_loop()
            self._left = loop.create_future()
            self._later = loop.call_later(LISTEN_AFTER_SECONDS, self._listen, self._left)
        return self._left

    def _listen(self, left: "asyncio.Future[None]") -> None:
        self._listening = asyncio.create_task(self._hear(left))

    async def _hear(self, left: "asyncio.Future[None]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        left.set_result(None)


async def _one(
    core: Core,
    raw: msgspec.Raw,
    index: int,
    batch: TaskBatch,
    arrived: float,
    caller: Caller,
    request_id: str | None,
) -> Decision | Problem:
    """One task of a batch: its decision or its problem document; no exception, for its neighbours' sake, but
    CallerLeftError, which holds for all of them."""
    try:
        task = _decode(raw, index)
        task = _shared(task, batch.fleet, batch.objective, batch.deadline_ms)
        return await core.decide(task, arrived=arrived, left=caller.left)
    except CallerLeftError:
        raise
    except PointsmanError as error:
        problem = problem_of(error, request_id=request_id)
    except Exception as error:  # noqa: BLE001 - a defect met by one task must not fail its neighbours
        log_defect(_LOG, error, index=index)
        problem = problem_of(error, request_id=request_id)
    core.metrics.problems.labels(problem.type).inc()
    return problem


def _decode(raw: msgspec.Raw, index: int) -> Task:
    try:
        return decode_json(bytes(raw), _TASK)
    except InvalidInputError as error:
        path = f"$.tasks[{index}]{error.path.removeprefix('$')}"
        raise InvalidInputError(error.expected, path=path) from None


def _shared(
    task: Task, fleet: dict[str, FleetState] | None, objective: Objective | None, deadline_ms: int | None
) -> Task:
    """What stands at the top of the batch holds for each task that does not say otherwise."""
    changes: dict[str, Any] = {}
    if fleet is not None and not task.fleet:
        changes["fleet"] = fleet
    if objective is not None and task.objective is None:
        changes["objective"] = objective
    if deadline_ms is not None and task.deadline_ms is None:
        changes["deadline_ms"] = deadline_ms
    return msgspec.structs.replace(task, **changes) if changes else task
