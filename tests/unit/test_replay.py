"""Logged requests decided anew: what would change, and that nothing is recorded."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.evaluation.changes import Changes, Replay
from service.evaluation.logged import NO_TEXT, Replayer
from service.knowledge.knowledge import read_knowledge
from service.store.decisions import StoredDecision
from tests.support.http_fixtures import CATALOG, OpenApp, RunningApp, settings_from

SECRET = "the login of Ms. Example fails"


async def log_of(app: RunningApp) -> list[StoredDecision]:
    """All that was logged, newest first."""
    return await app.core.store.decisions.requests(since=datetime(2020, 1, 1, tzinfo=UTC), before=None, limit=100)


async def replayed(log: list[StoredDecision], folder: Path, catalog: str, *, verdicts: bool = True) -> Replay:
    """The log decided anew with that catalog."""
    file = folder / "new.toml"
    file.write_text(catalog)
    replayer = Replayer(read_knowledge(settings_from({"catalog": {"path": str(file)}})), verdicts=verdicts)
    changes = Changes()
    for stored in log:
        changes.add(await replayer.decide(stored))
    return changes.document()


async def test_the_log_keeps_the_request_but_for_its_text(open_app: OpenApp) -> None:
    """Limits, fleet, attempts, labels, worth: all but the instructions, unless the settings keep them too."""
    fields: dict[str, Any] = {
        "name": "Login",
        "labels": {"repo": "shop"},
        "task_id": "T-1",
        "value_usd": 7.5,
        "require": {"agent_types": ["claude"]},
        "fleet": {"claude": {"running": 1, "slots": 3}},
        "attempts": [{"agent_type": "gemini", "model": "flash", "result": "failed"}],
    }
    app = await open_app()
    await app.decide(SECRET, **fields)
    (stored,) = await log_of(app)
    assert stored.request is not None
    assert stored.request.task == {**fields, "instructions": ""}
    assert stored.request.minutes_of_text is not None
    assert SECRET not in msgspec.json.encode(stored.request).decode()
    keeping = await open_app(store={"keep_instructions": True, "url": "sqlite://"})
    await keeping.decide(SECRET, **fields)
    (stored,) = await log_of(keeping)
    assert stored.request is not None
    assert stored.request.task["instructions"] == SECRET


async def test_the_same_catalog_changes_nothing(plain_app: RunningApp, tmp_path: Path) -> None:
    """Each request is decided as it was then, though its text is gone: what was read of it is in the log."""
    for number in range(6):
        await plain_app.decide(f"Rename a variable, {number}", objective=("economy", "quality")[number % 2])
        await plain_app.decide("Rewrite the whole compiler for a distributed platform. " * 20 + str(number))
    replay = await replayed(await log_of(plain_app), tmp_path, CATALOG)
    assert (replay.replayed, replay.changed, replay.refused, replay.not_kept) == (12, 0, 0, 0)
    assert replay.plans_before == replay.plans_after
    assert NO_TEXT not in str(replay)


async def test_a_cheaper_candidate_takes_over_and_the_gain_is_what_it_saves(
    plain_app: RunningApp, tmp_path: Path
) -> None:
    """From what to what, how often, and what that is expected to be worth by the new reckoning."""
    before = await plain_app.decide("Fix the login", value_usd=3)
    assert before["model"] == "flash"
    new = CATALOG.replace("solve_rate = 0.4\ncost_usd = 0.05", "solve_rate = 0.8\ncost_usd = 0.01")
    replay = await replayed(await log_of(plain_app), tmp_path, new)
    (change,) = replay.changes
    assert (change.before.model, change.to and change.to.model, change.n, change.compared) == ("flash", "haiku", 1, 1)
    assert change.gain_usd > 0
    assert replay.gain_usd == change.gain_usd


async def test_what_is_not_on_offer_any_more_is_said(plain_app: RunningApp, tmp_path: Path) -> None:
    """A request that nothing could take is counted; a change from a pair that is gone has no gain to compare with."""
    await plain_app.decide("Read the scan", require={"inputs": ["pdf"]})
    await plain_app.decide("Fix the login", value_usd=3)
    claude = CATALOG[: CATALOG.index('[[agent]]\ntype = "gemini"')]
    replay = await replayed(await log_of(plain_app), tmp_path, claude)
    assert (replay.replayed, replay.refused, replay.changed) == (2, 1, 2)
    assert {change.compared for change in replay.changes} == {0}
    assert replay.gain_usd == 0


@pytest.mark.parametrize("verdicts", [True, False])
async def test_a_verdict_stands_unless_it_is_set_aside(plain_app: RunningApp, tmp_path: Path, verdicts: bool) -> None:
    """A classifier is not asked again: its logged choice stays first while it is on offer."""
    await plain_app.decide("Fix the login", value_usd=3)
    (stored,) = await log_of(plain_app)
    decision = msgspec.json.decode(stored.decision)
    decision |= {"source": "local_model", "agent_type": "claude", "model": "opus"}
    changed = msgspec.structs.replace(stored, decision=msgspec.Raw(msgspec.json.encode(decision)))
    replay = await replayed([changed], tmp_path, CATALOG, verdicts=verdicts)
    assert replay.changed == (0 if verdicts else 1)


async def test_a_decision_of_an_older_version_is_left_out(plain_app: RunningApp, tmp_path: Path) -> None:
    """Its request is not in the log; neither is one that this version does not understand."""
    await plain_app.decide()
    (stored,) = await log_of(plain_app)
    assert stored.request is not None
    strange = msgspec.structs.replace(stored.request, task={**stored.request.task, "colour": "red"})
    log = [msgspec.structs.replace(stored, request=None), msgspec.structs.replace(stored, request=strange)]
    assert (await replayed(log, tmp_path, CATALOG)).not_kept == 2
