"""What each view shows, put together from the running parts and the record."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode

import msgspec

from service.api.page.engine import named
from service.contract.errors import InvalidInputError
from service.knowledge.knowledge import Knowledge
from service.observe.candidates import intervals
from service.store.decisions import StoredDecision
from service.store.search import DecisionFilter

PAGE = 50
"""Decisions on one page."""

SOURCES = ("local_model", "cli", "forecast", "requested", "only_candidate")

FILTERS = frozenset({"agent_type", "model", "source", "kind", "task_id", "since", "until", "degraded", "before"})

_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(?::\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](?::\d{1,5})?")


def windows_of(stored: StoredDecision | None, now: datetime) -> list[dict[str, Any]]:
    """The windows that the caller of a decision told, those first that begin anew first."""
    if stored is None or stored.request is None:
        return []
    shown: list[dict[str, Any]] = []
    for pool, state in _mapping(stored.request.task.get("pools")).items():
        for window in _list(_mapping(state).get("windows")):
            told = _mapping(window)
            resets_at = _moment(str(told.get("resets_at")))
            shown.append(
                {
                    "pool": pool,
                    "minutes": told.get("minutes"),
                    "used": told.get("used", 0.0),
                    "resets_at": resets_at,
                    "over": resets_at is not None and resets_at <= now,
                }
            )
    return sorted(shown, key=lambda one: (one["resets_at"] is None, str(one["resets_at"])))


def filter_of(query: Mapping[str, str]) -> DecisionFilter:
    """Empty fields of the form filter nothing. Raises InvalidInputError."""
    given = {name: value.strip() for name, value in query.items() if value.strip()}
    if given.get("degraded", "true") != "true":
        raise InvalidInputError("expected `true`, or nothing", path="query degraded")
    return DecisionFilter(
        agent_type=given.get("agent_type"),
        model=given.get("model"),
        source=given.get("source"),
        kind=given.get("kind"),
        task_id=given.get("task_id"),
        degraded="degraded" in given,
        since=_asked_moment("since", given),
        until=_asked_moment("until", given),
        before=given.get("before"),
    )


def listed(found: Sequence[StoredDecision], older: str | None, query: Mapping[str, str]) -> dict[str, Any]:
    """The rows of the list, and where its neighbours are; `older` is the decision_id from which to go on."""
    kept = {name: value for name, value in query.items() if value and name != "before"}
    return {
        "found": [{**msgspec.json.decode(one.decision), **_beside(one)} for one in found],
        "older": f"/decisions?{urlencode({**kept, 'before': older})}" if older else None,
        "newest": "/decisions" + (f"?{urlencode(kept)}" if kept else "") if query.get("before") else None,
    }


def choices(knowledge: Knowledge) -> dict[str, Any]:
    """What the fields of the filters offer."""
    catalog = knowledge.catalog
    return {
        "agents": catalog.agent_types,
        "models": list(dict.fromkeys(candidate.model for candidate in catalog.candidates)),
        "kinds": list(getattr(catalog, "kind_ids", ())),
        "sources": SOURCES,
    }


def decision_view(stored: StoredDecision, outcomes: Sequence[Any], host: str) -> dict[str, Any]:
    """One decision with all that is known of it. What an older version did not tell is None."""
    told: dict[str, Any] = msgspec.json.decode(stored.decision)
    decision = {**_UNTOLD, **told}
    decision["plan"] = [{**_UNTOLD_STEP, **step} for step in decision["plan"]]
    explanation = _mapping(msgspec.json.decode(stored.explanation) if stored.explanation else {})
    curl, whole = curl_of(stored, host)
    return {
        "stored": stored,
        "decision": decision,
        "kind": decision["kind"] or ({"id": stored.known.kind, "source": None} if stored.known.kind else None),
        "timed": any(step["minutes"] is not None or step["list_cost_usd"] is not None for step in decision["plan"]),
        "others": list(_others(decision, explanation)),
        "outcomes": outcomes,
        "prompt": explanation.get("prompt"),
        "reply": explanation.get("reply"),
        "curl": curl,
        "whole": whole,
        "document": json.dumps({"decision": told, "explanation": explanation}, indent=2),
    }


def curl_of(stored: StoredDecision, host: str) -> tuple[str, bool]:
    """The request to paste into a shell, and whether its text is in it. JSON in ASCII on one line, so that nothing in
    it can end the quotation or hide."""
    task = dict(stored.request.task) if stored.request else {"name": stored.name, "labels": stored.labels}
    whole = bool(task.get("instructions"))
    task["instructions"] = task.get("instructions") or "..."
    where = host if _HOST.fullmatch(host) else "localhost:8080"
    body = json.dumps({name: value for name, value in task.items() if value not in (None, "", {})})
    return f"curl -s http://{where}/v1/classify --data-binary @- <<'END'\n{body}\nEND", whole


def candidates_view(knowledge: Knowledge) -> list[dict[str, Any]]:
    """Each with its figures over all tasks and by kind, and with the intervals of these."""
    reports = knowledge.forecaster.abilities()
    return [
        {"report": report, "interval": own.get(None), "kinds": [(kind, told, own.get(kind)) for kind, told in kinds]}
        for report, own in zip(reports, intervals(knowledge.forecaster), strict=True)
        for kinds in [report.kinds.items()]
    ]


def pairs(knowledge: Knowledge) -> list[str]:
    """Every candidate by name."""
    return [named(candidate) for candidate in knowledge.catalog.candidates]


_LATER = (
    *("kind", "effort", "dispatch", "not_before", "explored", "propensity", "minutes", "list_cost_usd"),
    *("plan_minutes", "forecast_choice", "confidence"),
)
"""Fields of a decision that an older version did not write."""

_UNTOLD: dict[str, Any] = dict.fromkeys(_LATER)
_UNTOLD_STEP: dict[str, Any] = {"effort": None, "minutes": None, "list_cost_usd": None}


def _others(decision: Mapping[str, Any], explanation: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Eligible candidates that are not the choice, the best first, and what speaks against each."""
    planned = [named(step) for step in decision["plan"]]
    told = _list(_mapping(explanation.get("forecast")).get("candidates"))
    for one in sorted(map(_mapping, told), key=lambda one: -float(one.get("p_solve") or 0)):
        if named(one) == named(decision):
            continue
        step = planned.index(named(one)) + 1 if named(one) in planned else 0
        yield {**one, "why": f"step {step} of the plan" if step else "worth less than the plan's steps"}


def _beside(stored: StoredDecision) -> dict[str, Any]:
    kind = _mapping(_mapping(msgspec.json.decode(stored.decision)).get("kind")).get("id") or stored.known.kind
    return {"decided_at": stored.decided_at, "task_id": stored.task_id, "name": stored.name, "kind": kind}


def _asked_moment(name: str, given: Mapping[str, str]) -> datetime | None:
    if name not in given:
        return None
    moment = _moment(given[name][:40])
    if moment is None:
        raise InvalidInputError("expected a time such as 2026-01-31 08:00", path=f"query {name}")
    return moment


def _moment(text: str) -> datetime | None:
    """In UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return list(cast("Iterable[Any]", value)) if isinstance(value, list) else []
