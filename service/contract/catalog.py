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
"""The agent type that is registered for the endpoint and that this service runs itself. Without an endpoint a catalog
may have an agent of its own by that name, which is a runner like any other."""

LOCAL_SOLVE_RATE = 0.1
"""What is assumed of a local model of which nothing is known: small open models (Qwen2.5-Coder 32B, Llama 4 Scout)
solved 0.09 of SWE-bench Verified (bash-only leaderboard, 2025-12)."""


_PRIVATE, _HOSTED = "The local model itself, private and free", "The configured model"


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
    registered: bool = False
    """Whether this service runs it itself, on the endpoint: it comes and goes with that."""
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
    others = tuple(candidate for candidate in candidates if not candidate.registered)
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

    def with_local_agent(self, model: str | None, *, local: bool = True) -> "Catalog":
        """The catalog with agent type `local` for the endpoint's model; with what the file has alone where that is
        None. `local`: its work stays inside.

        Raises ConfigurationError where the file has an agent by that name too: nobody could tell whose outcomes are
        whose, or what a request for it means.
        """
        others = [candidate for candidate in self.candidates if not candidate.registered]
        if model is None:
            return self.of(others)
        if any(candidate.agent_type == LOCAL_AGENT for candidate in others):
            expected = f"expected another name: agent `{LOCAL_AGENT}` is the one of local_model.endpoint, which is set"
            raise ConfigurationError(expected, path=f"$.agent[{self.agent_types.index(LOCAL_AGENT)}].type")
        registered = Candidate(
            agent_type=LOCAL_AGENT,
            model=model,
            agent_description=f"{_PRIVATE if local else _HOSTED}, run by this service: one answer, no tools.",
            solve_rate=LOCAL_SOLVE_RATE,
            cost_usd=0.0,
            local=local,
            registered=True,
        )
        return self.of([*others, registered])
