"""`POST /v1/outcomes`, `/v1/outcomes/batch` and `DELETE /v1/outcomes/{outcome_id}`."""

import msgspec
from litestar import Response, delete
from litestar.params import FromPath

from service.api.answers import json_response
from service.api.posting import Answer, Posted, decode_item, posting
from service.contract.decoding import decode_json
from service.contract.errors import ConflictError, InvalidInputError, NotFoundError
from service.contract.items import decode_batch
from service.contract.outcome import Outcome, OutcomeBatch
from service.contract.problem import problem_of
from service.knowledge.outcomes import Outcomes
from service.observe.metrics import Metrics
from service.store.outcomes import Recording

_OUTCOME = msgspec.json.Decoder(Outcome)
_BATCH = msgspec.json.Decoder(OutcomeBatch)


class OutcomeRoutes:
    """What became of attempts: one, up to a thousand, and what was reported by mistake."""

    def __init__(self, outcomes: Outcomes, metrics: Metrics, *, max_body_bytes: int) -> None:
        self._outcomes = outcomes
        self._metrics = metrics
        self.handlers = [
            posting("/v1/outcomes", self.record, max_body_bytes),
            posting("/v1/outcomes/batch", self.record_batch, max_body_bytes),
            delete("/v1/outcomes/{outcome_id:str}", status_code=200)(self.withdraw),
        ]

    async def record(self, posted: Posted) -> Answer:
        outcome = decode_json(posted.take(), _OUTCOME)
        (recording,) = await self._outcomes.record([outcome])
        if isinstance(recording, InvalidInputError):
            raise recording
        if recording.state == "conflict":
            raise _conflict(outcome)
        return Answer.of(_kept(recording), status=201 if recording.state == "new" else 200)

    async def record_batch(self, posted: Posted) -> Answer:
        batch = decode_batch(posted.take(), _BATCH, "outcomes")
        decoded = [_decode(raw, index) for index, raw in enumerate(batch.outcomes)]
        recordings = iter(await self._outcomes.record([one for one in decoded if isinstance(one, Outcome)]))
        results: list[object] = []
        for index, outcome in enumerate(decoded):
            answer = next(recordings) if isinstance(outcome, Outcome) else outcome
            if isinstance(answer, Recording) and answer.state != "conflict":
                results.append(_kept(answer))
                continue
            if isinstance(outcome, Outcome):
                error = _placed(answer, index) if isinstance(answer, InvalidInputError) else _conflict(outcome)
            else:
                error = outcome
            results.append(self._metrics.answered(problem_of(error, request_id=posted.request_id)))
        return Answer.of({"results": results})

    async def withdraw(self, outcome_id: FromPath[str]) -> Response[bytes]:
        if not await self._outcomes.withdraw(outcome_id):
            raise NotFoundError(f"there is no outcome {outcome_id[:80]!r}")
        return json_response({"outcome_id": outcome_id, "withdrawn": True})


def _kept(recording: Recording) -> dict[str, object]:
    """What the caller gets: also, where nothing is learned from it, that this is so, as of a misspelt name."""
    kept: dict[str, object] = {"outcome_id": recording.outcome_id}
    return kept if recording.learned else {**kept, "learned": False}


def _decode(raw: msgspec.Raw, index: int) -> Outcome | InvalidInputError:
    try:
        return decode_item(raw, _OUTCOME, f"$.outcomes[{index}]")
    except InvalidInputError as error:
        return error


def _placed(error: InvalidInputError, index: int) -> InvalidInputError:
    return InvalidInputError(error.expected, path=f"$.outcomes[{index}]{error.path.removeprefix('$')}")


def _conflict(outcome: Outcome) -> ConflictError:
    return ConflictError(
        f"attempt {outcome.attempt} of decision {outcome.decision_id} has another outcome already; "
        "withdraw that one first"
    )
