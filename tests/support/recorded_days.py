"""A store as it looks after some days of work: decisions of the real pipeline, with outcomes as their chances say.

Among them are decisions of two classifiers, some of which the forecast would have made otherwise.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from service.base.ids import uuid7
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.decision import ForecastChoice, KindTold, Known, LoggedDecision, Usage
from service.contract.decoding import convert_tree
from service.contract.outcome import Context, Outcome
from service.contract.quota import PoolState
from service.store import Store, StoreLimits
from service.store.facts import CLASSIFIERS
from tests.support.builders import knowledge, pipeline, task

TITLES = (
    ("Fix the flaky login test", "issue"),
    ("Write a regression test for the timezone bug", "testing"),
    ("Build the settings screen", "frontend"),
    ("Compare three message queues for our load", "research"),
    ("Rename the billing module", "issue"),
    ("New service for invoices, from scratch", "greenfield"),
    ("Memory leak in the worker after two days", "issue"),
    ("Raise the coverage of the importer to 80 %", "testing"),
)
PLAN_MINUTES = 18.5

Pools = dict[str, PoolState]


async def decided(count: int, *, days: float, until: datetime, seed: int = 0) -> list[LoggedDecision]:
    """Decisions of the last `days`, oldest first, made by the real pipeline over the catalog that ships."""
    chance = random.Random(seed)
    known = knowledge(load_catalog(DEFAULT_CATALOG))
    made: list[LoggedDecision] = []
    decide = pipeline(known=known, observer=made.append).decide
    candidates = known.catalog.candidates
    for number in range(count):
        title, kind = TITLES[number % len(TITLES)]
        moment = until - timedelta(days=days * (count - number) / (count + 1))
        by_classifier = number % 5 in (1, 2, 3)
        classifier: Literal["local_model", "cli"] = "cli" if number % 3 == 0 else "local_model"
        other = candidates[chance.randrange(len(candidates))] if by_classifier else None
        await decide(
            task(
                name=title,
                instructions=f"{title}. Case {number}: it fails in the second run, and only there.",
                task_id=f"T-{number // 2 + 1}" if number % 3 else None,
                labels={"repo": ("shop", "importer", "web")[number % 3], "team": "payments"},
                objective=chance.choice(["economy", "balanced", "quality"]),
                **({name: getattr(other, name) for name in ("agent_type", "model", "effort")} if other else {}),
            )
        )
        logged = made[-1]
        decision = logged.decision
        agreed = number % 5 != 3
        first = decision if agreed else decision.plan[-1]
        forecast_choice = ForecastChoice(
            agent_type=first.agent_type, model=first.model, effort=first.effort, loss_usd=0.0 if agreed else 0.04
        )
        failed_before = [("gemini", "gemini-2.5-flash")] * (number % 7 == 4)
        made[-1] = msgspec.structs.replace(
            logged,
            decided_at=moment,
            decision=msgspec.structs.replace(
                decision,
                decision_id=uuid7(now_ns=lambda at=moment: int(at.timestamp() * 1e9)),  # type: ignore[misc]
                source=classifier if by_classifier else decision.source,
                degraded=number % 17 == 0,
                reason="A small fix in one place, with a test that shows it." if by_classifier else decision.reason,
                confidence=0.8 if by_classifier else None,
                usage=Usage(tokens_in=812, tokens_out=43, cost_usd=0.0004) if by_classifier else Usage(),
                kind=KindTold(id=kind, source=classifier if by_classifier else "text", probabilities={kind: 0.8}),
                forecast_choice=forecast_choice,
                minutes=9.0,
                plan_minutes=PLAN_MINUTES,
                dispatch="now",
                not_before=None,
            ),
            explanation={
                **logged.explanation,
                "prompt": "You choose who handles a task.\n\nTask: " + title if by_classifier else "",
                "reply": '{"code": "c2", "minutes": 25, "reason": "A small fix."}' if by_classifier else "",
            },
            known=Known(kind=kind, minutes=25.0 if by_classifier else None, failed=failed_before),
        )
    return made


def outcome_of(logged: LoggedDecision, chance: random.Random) -> tuple[Outcome, Context]:
    """What became of its choice: solved as often as was said, a little less for tests, and not always priced."""
    decision, known = logged.decision, logged.known
    other = decision.forecast_choice
    first = decision.plan[0]
    said = first.p_solve - (0.25 if known.kind == "testing" else 0.0)
    outcome = Outcome(
        decision_id=decision.decision_id,
        agent_type=decision.agent_type,
        model=decision.model,
        effort=decision.effort,
        solved=chance.random() < said,
        cost_usd=None if chance.random() < 0.1 else round(first.cost_usd * chance.uniform(0.5, 1.8), 4),
        duration_seconds=chance.uniform(60, 1500),
    )
    classifier = decision.source if decision.source in CLASSIFIERS else None
    wanted = other.key if other is not None and classifier is not None else None
    context = Context(
        agent_type=decision.agent_type,
        model=decision.model,
        effort=decision.effort,
        kind=known.kind,
        failed=known.failed,
        plan=[(*step.key, step.p_solve) for step in decision.plan],
        forecast_choice=wanted,
        classifier=classifier,
    )
    return outcome, context


async def record_days(
    url: str, count: int = 400, *, days: float = 6.0, extra: Sequence[LoggedDecision] = ()
) -> list[str]:
    """Fills the database at `url`; gives the ids of the decisions, oldest first."""
    until = datetime.now(UTC)
    chance = random.Random(1)
    moment = [until]
    store = Store(url, StoreLimits(), clock=lambda: moment[0])
    await store.start()
    made = [*await decided(count, days=days, until=until), *extra]
    for logged in made:
        store.decisions.add(logged)
    await store.decisions.flush()
    for logged in made[:: 1 if count < 50 else 2]:
        outcome, context = outcome_of(logged, chance)
        moment[0] = min(until, logged.decided_at + timedelta(minutes=20))
        await store.outcomes.record([outcome], [context])
    await store.aclose()
    return [logged.decision.decision_id for logged in made]


def renamed(logged: LoggedDecision, *, name: str, label: str, reason: str, prompt: str) -> LoggedDecision:
    """The decision with other words in it: its task's name and id, a label and its value, its reason, its prompt."""
    return msgspec.structs.replace(
        logged,
        name=name,
        task_id=name,
        labels={label: label},
        decision=msgspec.structs.replace(logged.decision, reason=reason),
        explanation={**logged.explanation, "prompt": prompt, "reply": prompt},
    )


def told_pools(logged: LoggedDecision, now: datetime) -> LoggedDecision:
    """The decision as if its caller had told what is left of two pools."""

    def window(minutes: int, used: float, hours: float) -> dict[str, Any]:
        return {"minutes": minutes, "used": used, "resets_at": (now + timedelta(hours=hours)).isoformat()}

    pools = {
        "anthropic": {"windows": [window(300, 0.42, 2), window(10080, 0.81, 70)]},
        "openai": {"windows": [window(300, 0.97, 1)]},
    }
    asked = logged.request or task()
    return msgspec.structs.replace(logged, request=msgspec.structs.replace(asked, pools=convert_tree(pools, Pools)))
