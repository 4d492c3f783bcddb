"""Every agent type and model on offer, with what is known of each; read from TOML."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.contract.decoding import convert_tree
from service.contract.errors import ConfigurationError, InvalidInputError
from service.contract.task import InputKind, Name
from service.contract.toml import parse_toml, read_toml

LOCAL_AGENT = "local"
"""The agent type that this service runs itself; it is on offer only while an endpoint is set."""

LOCAL_SOLVE_RATE = 0.1
"""What is assumed of a local model of which nothing is known: small open models (Qwen2.5-Coder 32B, Llama 4 Scout)
solved 0.09 of SWE-bench Verified (bash-only leaderboard, 2025-12)."""

DEFAULT_CATALOG = Path(__file__).parents[1] / "catalog.toml"


class Candidate(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One (agent type, model) pair. `solve_rate` (0 to 1) and `cost_usd` (one attempt) are None where unknown."""

    agent_type: str
    model: str
    agent_description: str = ""
    description: str = ""
    solve_rate: float | None = None
    cost_usd: float | None = None
    context_tokens: int | None = None
    inputs: tuple[InputKind, ...] = ("text",)
    local: bool = False
    quota_pool: str | None = None

    @cached_property
    def key(self) -> tuple[str, str]:
        """What identifies it everywhere: (agent type, model)."""
        return (self.agent_type, self.model)

    def __str__(self) -> str:
        """`agent/model`, for people."""
        return f"{self.agent_type}/{self.model}"


def without_local(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that do not need the local endpoint; all of them where there is no other."""
    others = tuple(candidate for candidate in candidates if candidate.agent_type != LOCAL_AGENT)
    return others or tuple(candidates)


class Catalog:
    """The candidates in the order of the file, and a short hash of what they were made from."""

    def __init__(self, candidates: Iterable[Candidate], *, version: str | None = None) -> None:
        self.candidates = tuple(candidates)
        self.by_key = {candidate.key: candidate for candidate in self.candidates}
        self.agent_types = tuple(dict.fromkeys(candidate.agent_type for candidate in self.candidates))
        self.version = version or hashlib.sha256(msgspec.json.encode(self.candidates)).hexdigest()[:12]

    def with_local_agent(self, model: str | None) -> "Catalog":
        """The catalog with agent type `local` for the endpoint's model; without any `local` where `model` is None.

        An entry of the file for exactly that model is kept, so that an operator can say what is known of it.
        Raises ConfigurationError where nothing would be left.
        """
        others = [candidate for candidate in self.candidates if candidate.agent_type != LOCAL_AGENT]
        if model is None:
            if not others:
                raise ConfigurationError("no agent but `local`, which needs local_model.endpoint", path="$.agent")
            return Catalog(others)
        known = self.by_key.get((LOCAL_AGENT, model))
        local = known or Candidate(
            agent_type=LOCAL_AGENT,
            model=model,
            agent_description="The local model itself, run by this service: private and free, one answer, no tools.",
            solve_rate=LOCAL_SOLVE_RATE,
            cost_usd=0.0,
            local=True,
        )
        return Catalog([*others, local])


class _ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Name
    description: Annotated[str, Meta(max_length=1000)] = ""
    solve_rate: Annotated[float, Meta(gt=0, lt=1)] | None = None
    cost_usd: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    context_tokens: Annotated[int, Meta(ge=1, le=10**12)] | None = None
    inputs: Annotated[tuple[InputKind, ...], Meta(min_length=1)] = ("text",)


class _AgentEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Name
    model: Annotated[tuple[_ModelEntry, ...], Meta(min_length=1, max_length=1000)]
    description: Annotated[str, Meta(max_length=1000)] = ""
    quota_pool: Name | None = None
    local: bool = False


class _CatalogFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: Annotated[tuple[_AgentEntry, ...], Meta(min_length=1, max_length=1000)]


def load_catalog(path: Path) -> Catalog:
    """Reads a catalog file, or raises ConfigurationError that names file, place, and what was expected."""
    return _catalog(read_toml(path), source=str(path))


def parse_catalog(text: str, *, source: str) -> Catalog:
    """Reads the text of a catalog file; `source` is what errors call it."""
    return _catalog(parse_toml(text, source=source), source=source)


def _catalog(tree: dict[str, Any], *, source: str) -> Catalog:
    try:
        entries = convert_tree(tree, _CatalogFile).agent
    except InvalidInputError as error:
        raise ConfigurationError(error.expected, path=error.path, source=source) from None
    candidates: dict[tuple[str, str], Candidate] = {}
    types: set[str] = set()
    for a, agent in enumerate(entries):
        path = f"$.agent[{a}].type"
        _check_name(agent.type, path, source)
        if agent.type in types:
            raise ConfigurationError(f"agent type {agent.type!r} stands twice", path=path, source=source)
        types.add(agent.type)
        for m, model in enumerate(agent.model):
            path = f"$.agent[{a}].model[{m}].id"
            _check_name(model.id, path, source)
            if (agent.type, model.id) in candidates:
                twice = f"model {model.id!r} stands twice in agent {agent.type!r}"
                raise ConfigurationError(twice, path=path, source=source)
            candidates[agent.type, model.id] = _candidate(agent, model)
    return Catalog(candidates.values())


def _check_name(name: str, path: str, source: str) -> None:
    """Fit for one line of a prompt, where `|` parts the columns, and of a log; and a model must be able to copy it."""
    if not name.isprintable() or name != name.strip() or "|" in name:
        expected = "expected a name without control characters, `|` and spaces at its ends"
        raise ConfigurationError(expected, path=path, source=source)


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
