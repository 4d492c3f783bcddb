"""What may change while the service runs, and what happens when it changes to something wrong."""

import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from service.app import create_app
from service.contract.settings import Settings, load_settings
from service.core import Core
from service.knowledge.reload import RELOADABLE
from tests.support.config_map import Mounted
from tests.support.fake_behaviours import status, verdict
from tests.support.fake_endpoint import FakeEndpoint

SMALL = '[[agent]]\ntype = "solo"\n[[agent.model]]\nid = "one"\nsolve_rate = 0.5\ncost_usd = 0.1\n'


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """The shipped catalog and prompts, and a configuration that names them."""
    return Mounted(tmp_path)


@asynccontextmanager
async def serving(mounted: Mounted) -> AsyncGenerator[tuple[Core, httpx.AsyncClient]]:
    """The service in this process, watching the mounted files."""
    file = mounted.folder / "pointsman.toml"
    app: Any = create_app(
        load_settings(str(file), {}), environ={}, config_file=file, reread=lambda: load_settings(str(file), {})
    )
    transport = httpx.ASGITransport(app)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield app.state.core, client


async def decided(client: httpx.AsyncClient) -> dict[str, object]:
    """One decision."""
    answer = await client.post("/v1/classify", json={"instructions": "fix it"})
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()
    return found


async def test_a_swapped_config_map_takes_effect(mounted: Mounted) -> None:
    """A new catalog behind the same links is decided with, and `versions` says so."""
    async with serving(mounted) as (core, client):
        before = await decided(client)
        mounted.change(catalog_toml=SMALL)
        await core.reloader.look()
        after = await decided(client)
        assert (after["agent_type"], after["model"]) == ("solo", "one")
        assert after["versions"] != before["versions"]
        status = (await client.get("/v1/status")).json()
        assert status["reload"]["reloads"] == 1
        assert status["reload"]["problem"] is None


async def test_a_bad_file_is_refused_and_the_last_good_one_stays(mounted: Mounted) -> None:
    """What is wrong is said with file and place; decisions go on as before, until it is mended."""
    async with serving(mounted) as (core, client):
        before = await decided(client)
        mounted.change(catalog_toml=SMALL.replace("solve_rate", "solve_rte"))
        await core.reloader.look()
        during = await decided(client)
        assert during["versions"] == before["versions"]
        status = (await client.get("/v1/status")).json()
        assert "$.agent[0].model[0].solve_rte" in status["reload"]["problem"]
        assert "catalog.toml" in status["reload"]["problem"]
        assert "pointsman_reload_refused 1.0" in (await client.get("/metrics")).text
        await core.reloader.look()
        assert core.reloader.status.refused == 1
        mounted.change(catalog_toml=SMALL)
        await core.reloader.look()
        assert (await decided(client))["model"] == "one"
        assert "pointsman_reload_refused 0.0" in (await client.get("/metrics")).text


async def test_a_prompt_changes_its_version_only(mounted: Mounted) -> None:
    """`versions.prompt` changes with a prompt file, `versions.catalog` does not."""
    async with serving(mounted) as (core, client):
        before = core.pipeline.knowledge.versions
        text = (mounted.folder / "prompts" / "classify.user.txt").read_text()
        mounted.change(prompts__classify_user_txt=text + "\nBe quick.\n")
        await core.reloader.look()
        after = core.pipeline.knowledge.versions
        assert after.prompt != before.prompt
        assert after.catalog == before.catalog
        assert (await decided(client))["versions"] == {
            "catalog": after.catalog,
            "prompt": after.prompt,
            "service": after.service,
        }


async def test_decision_settings_change_and_others_say_that_they_need_a_restart(mounted: Mounted) -> None:
    """A new objective holds for the next decision; a new port is named as waiting for a restart."""
    async with serving(mounted) as (core, client):
        text = (mounted.folder / "pointsman.toml").read_text()
        changed = text + '[decision]\nobjective = "economy"\n[server]\nport = 9999\n'
        mounted.change(pointsman_toml=changed)
        await core.reloader.look()
        assert core.pipeline.knowledge.decision.objective == "economy"
        assert (await client.get("/v1/status")).json()["reload"]["needs_restart"] == ["server"]
        mounted.change(pointsman_toml=text + "[decision]\nobjektive = 1\n")
        await core.reloader.look()
        assert "objective" in str(core.reloader.status.problem)
        assert core.pipeline.knowledge.decision.objective == "economy"


async def test_nothing_changed_is_nothing_done_and_a_signal_reads_all_anew(mounted: Mounted) -> None:
    """Without a change nothing is read; a nudge, which is what SIGHUP does, reads without one."""
    async with serving(mounted) as (core, _):
        knowledge = core.pipeline.knowledge
        await core.reloader.look()
        assert core.pipeline.knowledge is knowledge
        core.reloader.nudge()
        await core.reloader.look()
        assert core.reloader.status.reloads == 1


async def test_what_was_learned_survives_a_new_catalog(mounted: Mounted) -> None:
    """Outcomes of a pair that the new catalog still has count in it at once."""
    async with serving(mounted) as (core, client):
        for _ in range(20):
            outcome = {"agent_type": "codex", "model": "gpt-5.4", "solved": False, "cost_usd": 0.5}
            assert (await client.post("/v1/outcomes", json=outcome)).status_code == 201
        await core.learner.catch_up()
        text = (mounted.folder / "catalog.toml").read_text()
        mounted.change(catalog_toml=text.replace("solve_rate = 0.838", "solve_rate = 0.7"))
        await core.reloader.look()
        reports = {report.model: report for report in core.pipeline.knowledge.forecaster.abilities()}
        assert reports["gpt-5.4"].n == 20
        assert reports["claude-opus-4-8"].prior_solve_rate == 0.7


def keys() -> list[tuple[str, str]]:
    """Every setting, as section and key."""
    sections = msgspec.structs.fields(Settings)
    return [(section.name, key.name) for section in sections for key in msgspec.structs.fields(section.type)]


def another(value: object, kind: Any) -> object:  # noqa: ANN401 - the type of whichever key it is
    """Another value of the same type, within its limits."""
    schema = msgspec.json.schema(kind)
    choices = [choice for part in [schema, *schema.get("anyOf", [])] for choice in part.get("enum", [])]
    match value:
        case _ if choices:
            return next(choice for choice in choices if choice != value)
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2 if value else 0.5
        case list():
            return ["another"]
        case dict():
            return {"another": 1}
        case str():
            return "another"
        case _:
            return 0.5 if "number" in str(schema) else "llm"


def written(settings: Settings, section: str, key: str, value: object) -> str:
    """A file with the settings' strings as they are, and one key changed."""
    tree: dict[str, dict[str, Any]] = {}
    for name in Settings.__struct_fields__:
        given = msgspec.structs.asdict(getattr(settings, name))
        tree[name] = {key: text for key, text in given.items() if isinstance(text, str)}
    tree[section][key] = value
    lines: list[str] = []
    for name, entries in tree.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(text).replace(': ', ' = ')}" for key, text in entries.items()]
    return "\n".join(lines)


def others(folder: Path) -> dict[str, Path]:
    """Another catalog, and a folder with other prompts."""
    catalog, prompts = folder / "other.toml", folder / "other-prompts"
    catalog.write_text(SMALL)
    shutil.copytree(folder / "prompts", prompts)
    text = (prompts / "classify.user.txt").read_text()
    (prompts / "classify.user.txt").write_text(f"{text}\nOther.\n")
    return {"catalog": catalog, "prompts": prompts}


@pytest.mark.parametrize(("section", "key"), keys(), ids=lambda name: str(name))
async def test_every_setting_takes_effect_or_says_that_it_needs_a_restart(
    mounted: Mounted, section: str, key: str
) -> None:
    """A changed file is never passed over in silence: what decisions are made from is in use, all else is named."""
    base = (mounted.folder / "pointsman.toml").read_text()
    mounted.change(pointsman_toml=base + '[local_model]\nmodel = "m"\n')
    settings = load_settings(str(mounted.folder / "pointsman.toml"), {})
    given: msgspec.Struct = getattr(settings, section)
    field = next(field for field in msgspec.structs.fields(given) if field.name == key)
    value = another(getattr(given, key), field.type)
    if section in {"catalog", "prompts"}:
        value = str(others(mounted.folder)[section])
    async with serving(mounted) as (core, _):
        before = core.in_use.knowledge
        mounted.change(pointsman_toml=written(settings, section, key, value))
        await core.reloader.look()
        told, after = core.reloader.status, core.in_use.knowledge
        assert told.problem is None
        if section in {"decision", "verifier"}:
            assert getattr(getattr(after, section), key) == value != getattr(getattr(before, section), key)
        elif section == "catalog":
            assert after.versions.catalog != before.versions.catalog
        elif section == "prompts":
            assert after.versions.prompt != before.versions.prompt
        assert told.needs_restart == ([] if section in RELOADABLE else [section])


async def test_the_time_that_answers_are_shared_is_reloaded(mounted: Mounted, fake_endpoint: FakeEndpoint) -> None:
    """`decision.cache_seconds` holds for the next request: no part has kept the one it was made with."""
    fake_endpoint.always(verdict("claude", "claude-opus-4-8"))
    text = (mounted.folder / "pointsman.toml").read_text()
    text += f'[local_model]\nendpoint = "{fake_endpoint.url}"\nmodel = "m"\n[decision]\ncache_seconds = '
    mounted.change(pointsman_toml=f"{text}0\n")
    async with serving(mounted) as (core, client):
        await core.learner.catch_up()
        for seconds, cached in ((0, False), (600, True), (0, False)):
            mounted.change(pointsman_toml=f"{text}{seconds}\n")
            await core.reloader.look()
            await decided(client)
            again = await decided(client)
            assert (again["source"], again["cached"]) == ("local_model", cached), again["failures"]


async def test_a_rested_classifier_is_asked_again_after_a_reload(mounted: Mounted, fake_endpoint: FakeEndpoint) -> None:
    """A Retry-After of an hour ends with a reload, be it refused: who asks for one has mended something."""
    fake_endpoint.then(status(429, headers={"Retry-After": "3600"}))
    fake_endpoint.always(verdict("claude", "claude-opus-4-8"))
    text = (mounted.folder / "pointsman.toml").read_text() + "[decision]\ncache_seconds = 0\n"
    text += f'[local_model]\nendpoint = "{fake_endpoint.url}"\nmodel = "m"\n'
    mounted.change(pointsman_toml=text)
    async with serving(mounted) as (core, client):
        for _ in range(2):
            assert (await decided(client))["source"] == "forecast"
        assert len(fake_endpoint.chats) == 1
        core.reloader.nudge()
        mounted.change(catalog_toml="[[")
        await core.reloader.look()
        assert core.reloader.status.problem is not None
        assert (await decided(client))["source"] == "local_model"
        (classifier,) = (await client.get("/v1/status")).json()["classifiers"]
        assert classifier["healthy"]
