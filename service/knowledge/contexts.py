"""What decisions knew, for those who report what became of them: the newest from memory, others from the record."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from service.base.ids import is_uuid
from service.contract.decision import ForecastChoice, Known, LoggedDecision, Step
from service.contract.decoding import DECODE_ERRORS
from service.contract.outcome import Context
from service.contract.task import Key
from service.store.decisions import DecisionTable, StoredDecision
from service.store.facts import CLASSIFIERS
from service.store.schema import storable

REMEMBERED = 4096
"""Decisions of this process that are found without the database: what a second can bring, at some 500 bytes each."""

AT_ONCE = 200
"""Decisions read at once: a few milliseconds of the event loop."""


class _Answer(msgspec.Struct, frozen=True):
    agent_type: str
    model: str
    effort: str | None = None
    plan: Sequence[Step] = ()
    source: str = ""
    forecast_choice: ForecastChoice | None = None


class _Remembered(msgspec.Struct, frozen=True):
    """What is kept of a decision: neither its text nor its explanation."""

    answer: _Answer
    task_id: str | None
    labels: Mapping[str, str]
    known: Known


class _Named(msgspec.Struct, frozen=True):
    agent_type: str
    model: str
    effort: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_NAMED = msgspec.json.Decoder(_Named)


class Contexts:
    """Finds what decisions knew."""

    def __init__(self, decisions: DecisionTable) -> None:
        self._decisions = decisions
        self._newest: OrderedDict[str, _Remembered] = OrderedDict()

    def remember(self, logged: LoggedDecision) -> None:
        """A decision was made here. Never waits."""
        made = logged.decision
        answer = _Answer(made.agent_type, made.model, made.effort, made.plan, made.source, made.forecast_choice)
        self._newest[made.decision_id] = _Remembered(answer, logged.task_id, logged.labels, logged.known)
        if len(self._newest) > REMEMBERED:
            self._newest.popitem(last=False)

    async def find(self, decision_ids: Iterable[str | None]) -> dict[str, Context]:
        """By decision_id, of those that are known. Raises StoreUnavailableError."""
        wanted = {known for known in decision_ids if known is not None and is_uuid(known)}
        found = {one: _context(self._newest[one]) for one in wanted if one in self._newest}
        left = sorted(wanted - found.keys())
        for start in range(0, len(left), AT_ONCE):
            for stored in await self._decisions.get_many(left[start : start + AT_ONCE]):
                with contextlib.suppress(*DECODE_ERRORS):  # of one that is damaged nothing is known
                    found[stored.decision_id] = _context(_recorded(stored))
        return found


def _recorded(stored: StoredDecision) -> _Remembered:
    """Also of what a newer version of the service wrote, as far as it is understood. Raises msgspec.MsgspecError where
    it is not even understood what was chosen."""
    try:
        answer = _ANSWER.decode(stored.decision)
    except msgspec.ValidationError:
        named = _NAMED.decode(stored.decision)
        answer = _Answer(named.agent_type, named.model, named.effort)
    return _Remembered(answer, stored.task_id, stored.labels, stored.known)


def _context(one: _Remembered) -> Context:
    return Context(
        agent_type=storable(one.answer.agent_type),
        model=storable(one.answer.model),
        effort=None if one.answer.effort is None else storable(one.answer.effort),
        task_id=None if one.task_id is None else storable(one.task_id),
        labels={storable(key): storable(value) for key, value in one.labels.items()},
        kind=one.known.kind,
        minutes=one.known.minutes,
        failed=[(storable(agent_type), storable(model)) for agent_type, model in one.known.failed],
        advice=one.known.advice,
        plan=[(storable(s.key[0]), storable(s.key[1]), s.p_solve) for s in one.answer.plan],
        forecast_choice=_forecast_choice(one.answer),
        classifier=one.answer.source if one.known.advice is None and one.answer.source in CLASSIFIERS else None,
    )


def _forecast_choice(answer: _Answer) -> Key | None:
    other = answer.forecast_choice
    if other is None or answer.source not in CLASSIFIERS:
        return None
    agent_type, model = other.key
    return storable(agent_type), storable(model)
