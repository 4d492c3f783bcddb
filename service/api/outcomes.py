"""`POST /v1/outcomes`, `/v1/outcomes/batch` and `DELETE /v1/outcomes/{outcome_id}`."""

from typing import Any

import msgspec
from litestar import Response, delete
from litestar.params import FromPath

from service.api.answers import json_response
from service.api.posting import Answer, Posted, posting
from service.api.problems import problem_of
from service.base.ids import is_uuid
from service.contract.decoding import decode_json
from service.contract.errors import ConflictError, InvalidInputError, NotFoundError
from service.contract.outcome import Outcome, OutcomeBatch
from service.core import Core
from service.store import Recording

_OUTCOME = msgspec.json.Decoder(Outcome)
_BATCH = msgspec.json.Decoder(OutcomeBatch)


def outcome_routes(core: Core) -> list[Any]:
    """The handlers."""

    limit = core.settings.server.max_body_bytes

    @posting("/v1/outcomes", max_body_bytes=limit)
    async def record(posted: Posted) -> Answer:
        outcome = decode_json(posted.take(), _OUTCOME)
        (recording,) = await _record(core, [outcome])
        if recording.state == "conflict":
            raise _conflict(outcome)
        return Answer.of({"outcome_id": recording.outcome_id}, status=201 if recording.state == "new" else 200)

    @posting("/v1/outcomes/batch", max_body_bytes=limit)
    async def record_batch(posted: Posted) -> Answer:
        batch = decode_json(posted.take(), _BATCH)
        decoded = [_decode(raw, index) for index, raw in enumerate(batch.outcomes)]
        good = [outcome for outcome in decoded if isinstance(outcome, Outcome)]
        recordings = iter(await _record(core, good))
        results: list[object] = []
        for outcome in decoded:
            recording = next(recordings) if isinstance(outcome, Outcome) else None
            if recording is not None and recording.state != "conflict":
                results.append({"outcome_id": recording.outcome_id})
                continue
            error = _conflict(outcome) if isinstance(outcome, Outcome) else outcome
            problem = problem_of(error, request_id=posted.request_id)
            core.metrics.problems.labels(problem.type).inc()
            results.append(problem)
        return Answer.of({"results": results})

    @delete("/v1/outcomes/{outcome_id:str}", status_code=200)
    async def withdraw(outcome_id: FromPath[str]) -> Response[bytes]:
        if not is_uuid(outcome_id) or not await core.store.outcomes.withdraw(outcome_id):
            raise NotFoundError(f"there is no outcome {outcome_id[:80]!r}")
        core.learner.nudge()
        return json_response({"outcome_id": outcome_id, "withdrawn": True})

    return [record, record_batch, withdraw]


async def _record(core: Core, outcomes: list[Outcome]) -> list[Recording]:
    recordings = await core.store.outcomes.record(outcomes) if outcomes else []
    for outcome, recording in zip(outcomes, recordings, strict=True):
        if recording.state == "new":
            core.metrics.outcomes.labels("true" if outcome.solved else "false").inc()
            core.calibration.recorded(outcome)
    core.learner.nudge()
    return recordings


def _decode(raw: msgspec.Raw, index: int) -> Outcome | InvalidInputError:
    try:
        return decode_json(bytes(raw), _OUTCOME)
    except InvalidInputError as error:
        return InvalidInputError(error.expected, path=f"$.outcomes[{index}]{error.path.removeprefix('$')}")


def _conflict(outcome: Outcome) -> ConflictError:
    return ConflictError(
        f"attempt {outcome.attempt} of decision {outcome.decision_id} has another outcome already; "
        "withdraw that one first"
    )
