"""The catalog's file: TOML, checked, with the place of what is wrong in it."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.contract.catalog import Candidate, Catalog, Pool
from service.contract.decoding import convert_tree
from service.contract.errors import ConfigurationError, InvalidInputError
from service.contract.kind import CostUsd, Figures, Kind, KindId, Minutes, SolveRate
from service.contract.task import InputKind, Name, key_of
from service.contract.toml import parse_toml, read_toml

DEFAULT_CATALOG = Path(__file__).parents[1] / "catalog.toml"


class _ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Name
    effort: Name | None = None
    description: Annotated[str, Meta(max_length=1000)] = ""
    solve_rate: SolveRate | None = None
    cost_usd: CostUsd | None = None
    minutes: Minutes | None = None
    kinds: Annotated[dict[KindId, Figures], Meta(max_length=100)] = {}
    context_tokens: Annotated[int, Meta(ge=1, le=10**12)] | None = None
    inputs: Annotated[tuple[InputKind, ...], Meta(min_length=1)] = ("text",)


class _AgentEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Name
    model: Annotated[tuple[_ModelEntry, ...], Meta(min_length=1, max_length=1000)]
    description: Annotated[str, Meta(max_length=1000)] = ""
    quota_pool: Name | None = None
    local: bool = False


class _PoolEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Name
    billing: Literal["metered", "plan"] = "metered"
    reserve: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class _CatalogFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: Annotated[tuple[_AgentEntry, ...], Meta(min_length=1, max_length=1000)]
    kind: Annotated[tuple[Kind, ...], Meta(max_length=100)] = ()
    pool: Annotated[tuple[_PoolEntry, ...], Meta(max_length=1000)] = ()


def load_catalog(path: Path) -> Catalog:
    """Reads a catalog file, or raises ConfigurationError that names file, place, and what was expected."""
    return _checked(read_toml(path), source=str(path))


def parse_catalog(text: str, *, source: str) -> Catalog:
    """Reads the text of a catalog file; `source` is what errors call it."""
    return _checked(parse_toml(text, source=source), source=source)


def _checked(tree: dict[str, Any], *, source: str) -> Catalog:
    try:
        return _catalog(convert_tree(tree, _CatalogFile))
    except InvalidInputError as error:
        raise ConfigurationError(error.expected, path=error.path, source=source) from None


def _catalog(file: _CatalogFile) -> Catalog:
    """Checks what spans several entries. Raises InvalidInputError with the place."""
    kinds = _distinct([kind.id for kind in file.kind], "kind", "$.kind[{}].id")
    _distinct([agent.type for agent in file.agent], "agent type", "$.agent[{}].type")
    for a, agent in enumerate(file.agent):
        _check_models(agent, f"$.agent[{a}]", kinds)
    pools = _distinct([pool.id for pool in file.pool], "pool", "$.pool[{}].id")
    drawn_on = {agent.quota_pool for agent in file.agent if agent.quota_pool is not None}
    for p, pool in enumerate(pools):
        if pool not in drawn_on:
            raise InvalidInputError(
                f"no agent has quota_pool = {pool!r}{_nearest(pool, drawn_on)}", path=f"$.pool[{p}].id"
            )
    return Catalog(
        [_candidate(agent, model) for agent in file.agent for model in agent.model],
        kinds=file.kind,
        pools={pool.id: Pool(id=pool.id, billing=pool.billing, reserve=pool.reserve) for pool in file.pool},
    )


def _check_models(agent: _AgentEntry, path: str, kinds: list[str]) -> None:
    known: set[str] = set()
    for m, model in enumerate(agent.model):
        place = f"{path}.model[{m}]"
        _check_name(model.id, f"{place}.id")
        if model.effort is not None:
            _check_name(model.effort, f"{place}.effort")
        name = key_of(agent.type, model.id, model.effort)[1]
        if name in known:
            what = f"model {model.id!r}" if model.effort is None else f"model {model.id!r} with effort {model.effort!r}"
            raise InvalidInputError(f"{what} stands twice in agent {agent.type!r}", path=f"{place}.id")
        known.add(name)
        for kind in model.kinds:
            if kind not in kinds:
                expected = f"expected an id of a [[kind]]: {', '.join(kinds)}" if kinds else "there is no [[kind]]"
                raise InvalidInputError(
                    f"unknown kind{_nearest(kind, kinds)}; {expected}", path=f"{place}.kinds.{kind}"
                )


def _distinct(names: list[str], what: str, path: str) -> list[str]:
    """The names, each fit to be one and standing there once."""
    for i, name in enumerate(names):
        _check_name(name, path.format(i))
        if name in names[:i]:
            raise InvalidInputError(f"{what} {name!r} stands twice", path=path.format(i))
    return names


def _check_name(name: str, path: str) -> None:
    """Fit for one line of a prompt, where `|` parts the columns, and of a log; and a model must be able to copy it."""
    if not name.isprintable() or name != name.strip() or "|" in name:
        raise InvalidInputError("expected a name without control characters, `|` and spaces at its ends", path=path)


def _nearest(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _candidate(agent: _AgentEntry, model: _ModelEntry) -> Candidate:
    facts = msgspec.structs.asdict(model)
    return Candidate(
        agent_type=agent.type,
        model=facts.pop("id"),
        agent_description=agent.description,
        local=agent.local,
        quota_pool=agent.quota_pool,
        **facts,
    )
