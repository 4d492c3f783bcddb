"""An outcome as the text of its row: written in one way, and read whoever wrote it."""

import msgspec

from service.contract.kind import MAX_COST_USD
from service.contract.outcome import MAX_SECONDS, Context, Outcome
from service.store.schema import storable

_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Outcome)


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """The types of an outcome without its limits: another version may have others."""

    solved: bool
    agent_type: str
    model: str
    effort: str | None = None
    decision_id: str | None = None
    attempt: int = 1
    cost_usd: float | None = None
    duration_seconds: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    labels: dict[str, str] = {}
    kind: str | None = None
    task_id: str | None = None


_TOLD = msgspec.json.Decoder(_Told)


def text_of(told: Outcome | Context) -> str:
    """As a column has it; the same for the same content."""
    return storable(_ENCODER.encode(told).decode())


def outcome_of(text: str) -> Outcome:
    """Also what a newer version wrote, with fields or values that are not allowed here; a cost or a duration that is
    not allowed is not known. Raises msgspec.MsgspecError where the types are others."""
    try:
        return _DECODER.decode(text)
    except msgspec.ValidationError:
        told = _TOLD.decode(text)
    fields = msgspec.structs.asdict(told)
    fields["cost_usd"] = _within(told.cost_usd, MAX_COST_USD)
    fields["duration_seconds"] = _within(told.duration_seconds, MAX_SECONDS)
    return Outcome(**fields)


def _within(value: float | None, most: float) -> float | None:
    return value if value is not None and 0 <= value <= most else None
