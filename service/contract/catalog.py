"""Every agent type and model on offer, with what is known of each, and the kinds of work they are known for."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal

import msgspec

from service.contract.errors import ConfigurationError
from service.contract.kind import Figures, Kind
from service.contract.task import InputKind, Key, key_of

LOCAL_AGENT = "local"
"""The agent type that this service runs itself; it is on offer only while an endpoint is set."""

LOCAL_SOLVE_RATE = 0.1
"""What is assumed of a local model of which nothing is known: small open models (Qwen2.5-Coder 32B, Llama 4 Scout)
solved 0.09 of SWE-bench Verified (bash-only leaderboard, 2025-12)."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One (agent type, model, effort); `effort` is None where the catalog names none.

    `solve_rate` (0 to 1), `cost_usd` and `minutes` (one attempt) are None where unknown; `kinds` has what differs from
    them for one kind of work, by its id.
    """

    agent_type: str
    model: str
    effort: str | None = None
    agent_description: str = ""
    description: str = ""
    solve_rate: float | None = None
    cost_usd: float | None = None
    minutes: float | None = None
    kinds: dict[str, Figures] = {}
    context_tokens: int | None = None
    inputs: tuple[InputKind, ...] = ("text",)
    local: bool = False
    quota_pool: str | None = None

    def __hash__(self) -> int:
        """By its key: `kinds` is not hashable."""
        return hash(self.key)

    @cached_property
    def key(self) -> Key:
        """What identifies it everywhere: agent type, and model with effort."""
        return key_of(self.agent_type, self.model, self.effort)

    def __str__(self) -> str:
        """`agent/model` or `agent/model@effort`, for people."""
        return "/".join(self.key)


def without_local(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that do not need the local endpoint; all of them where there is no other."""
    others = tuple(candidate for candidate in candidates if candidate.agent_type != LOCAL_AGENT)
    return others or tuple(candidates)


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """What several agents draw on. `billing` "plan": attempts cost nothing until a window is used up; `reserve` is the
    share of each window that is kept for others."""

    id: str
    billing: Literal["metered", "plan"] = "metered"
    reserve: float = 0.0


class Catalog:
    """The candidates and the kinds of work in the order of the file, the pools by id, and a short hash of it all."""

    def __init__(
        self,
        candidates: Iterable[Candidate],
        *,
        kinds: Iterable[Kind] = (),
        pools: Mapping[str, Pool] | None = None,
        version: str | None = None,
    ) -> None:
        self.candidates = tuple(candidates)
        self.kinds = tuple(kinds)
        self.kind_ids = tuple(kind.id for kind in self.kinds)
        self.pools = dict(pools or {})
        self.by_key = {candidate.key: candidate for candidate in self.candidates}
        self.agent_types = tuple(dict.fromkeys(candidate.agent_type for candidate in self.candidates))
        content = msgspec.json.encode((self.candidates, self.kinds, self.pools), order="sorted")
        self.version = version or hashlib.sha256(content).hexdigest()[:12]

    def of(self, candidates: Iterable[Candidate]) -> "Catalog":
        """The same kinds and pools with other candidates."""
        return Catalog(candidates, kinds=self.kinds, pools=self.pools)

    def with_local_agent(self, model: str | None) -> "Catalog":
        """The catalog with agent type `local` for the endpoint's model; without any `local` where `model` is None.

        An entry of the file for exactly that model is kept, so that an operator can say what is known of it.
        Raises ConfigurationError where nothing would be left.
        """
        others = [candidate for candidate in self.candidates if candidate.agent_type != LOCAL_AGENT]
        if model is None:
            if not others:
                raise ConfigurationError("no agent but `local`, which needs local_model.endpoint", path="$.agent")
            return self.of(others)
        known = self.by_key.get((LOCAL_AGENT, model))
        local = known or Candidate(
            agent_type=LOCAL_AGENT,
            model=model,
            agent_description="The local model itself, run by this service: private and free, one answer, no tools.",
            solve_rate=LOCAL_SOLVE_RATE,
            cost_usd=0.0,
            local=True,
        )
        return self.of([*others, local])
