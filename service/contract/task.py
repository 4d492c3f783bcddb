"""What is to be done, and under which limits: the request of `POST /v1/classify`."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service.contract.kind import KindId
from service.contract.quota import PoolState
from service.contract.verifier import Verifier

Objective = Literal["economy", "balanced", "quality"]
InputKind = Literal["text", "image", "audio", "pdf"]
AttemptResult = Literal["failed", "solved", "rate_limited", "error"]

Name = Annotated[str, Meta(min_length=1, max_length=200)]
"""An agent type or a model id."""

Labels = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=100)], Annotated[str, Meta(max_length=300)]], Meta(max_length=32)
]
"""Facts about a task; the limits keep a log line and a row of the store small."""


UsdPerHour = Annotated[float, Meta(ge=0, le=1e9)]
"""What an hour of waiting for a task's solution costs."""


Effort = Annotated[str, Meta(min_length=1, max_length=200)]
"""The reasoning effort that a model is started with, where the catalog names it."""

Key = tuple[str, str]
"""What identifies a candidate everywhere inside: its agent type, and its model with its effort as `model@effort`."""


def key_of(agent_type: str, model: str, effort: str | None) -> Key:
    """The key of a candidate, whether the catalog has it or not."""
    return agent_type, model if effort is None else f"{model}@{effort}"


def name_of(agent_type: str, model: str, effort: str | None) -> str:
    """What people call it, and what `pair_named` reads: `agent/model`, or `agent/model@effort`."""
    return "/".join(key_of(agent_type, model, effort))


class _Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Strict and immutable: an unknown field is an error, so that a misspelt limit is never silently dropped."""


class Pair(_Wire, frozen=True, kw_only=True):
    """An agent type, or one of its models, or that at one effort."""

    agent_type: Name
    model: Name | None = None
    effort: Effort | None = None

    def __post_init__(self) -> None:
        """Rules that span two fields."""
        if self.effort is not None and self.model is None:
            raise ValueError("`effort` needs `model`")

    @property
    def name(self) -> tuple[str, str | None]:
        """The agent type alone, or a key."""
        return (self.agent_type, None) if self.model is None else key_of(self.agent_type, self.model, self.effort)


def pair_named(name: str) -> Pair:
    """What a person calls `agent`, `agent/model` or `agent/model@effort`; its names may be too short or too long.

    A model whose own id has an `@` is found all the same, because names of candidates are compared as a whole.
    """
    agent_type, slash, name_of_model = name.partition("/")
    if not slash:
        return Pair(agent_type=agent_type)
    model, at, effort = name_of_model.rpartition("@")
    if not (model and at and effort):
        return Pair(agent_type=agent_type, model=name_of_model)
    return Pair(agent_type=agent_type, model=model, effort=effort)


class Require(_Wire, frozen=True, kw_only=True):
    """Hard limits: a candidate that breaks one is never chosen."""

    agent_types: Annotated[list[Name], Meta(max_length=100)] | None = None
    exclude: Annotated[list[Pair], Meta(max_length=1000)] = []
    inputs: Annotated[list[InputKind], Meta(max_length=16)] = []
    context_tokens: Annotated[int, Meta(ge=0, le=10**12)] | None = None
    local_only: bool = False
    max_cost_usd: Annotated[float, Meta(ge=0)] | None = None


class FleetState(_Wire, frozen=True, kw_only=True):
    """What the scheduler knows now about one agent."""

    running: Annotated[int, Meta(ge=0, le=10**9)] = 0
    slots: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    available_at: Annotated[datetime, Meta(tz=True)] | None = None
    quota_left: Annotated[float, Meta(ge=0, le=1)] | None = None


class Attempt(_Wire, frozen=True, kw_only=True):
    """An earlier attempt at this same task. Only `failed` says something about how hard the task is: that the verifier
    rejected its work."""

    agent_type: Name
    model: Name
    effort: Effort | None = None
    result: AttemptResult

    @property
    def key(self) -> Key:
        """Which candidate it was."""
        return key_of(self.agent_type, self.model, self.effort)


class Task(_Wire, frozen=True, kw_only=True):
    """A task and the limits under which it is decided; every field is the contract's."""

    instructions: Annotated[str, Meta(min_length=1, max_length=200_000)]
    name: Annotated[str, Meta(max_length=300)] = ""
    task_id: Annotated[str, Meta(max_length=200)] | None = None
    labels: Labels = {}
    agent_type: Name | None = None
    model: Name | None = None
    effort: Effort | None = None
    kind: KindId | None = None
    require: Require = Require()
    fleet: Annotated[dict[Name, FleetState], Meta(max_length=1000)] = {}
    pools: Annotated[dict[Name, PoolState], Meta(max_length=1000)] = {}
    attempts: Annotated[list[Attempt], Meta(max_length=1000)] = []
    objective: Objective | None = None
    value_usd: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    delay_usd_per_hour: UsdPerHour | None = None
    verifier: Verifier | None = None
    deadline_ms: Annotated[int, Meta(ge=20, le=600_000)] | None = None
    strict: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        """Rules that span two fields."""
        if self.model is not None and self.agent_type is None:
            raise ValueError("`model` needs `agent_type`: a model is asked for together with the agent that runs it")
        if self.effort is not None and self.model is None:
            raise ValueError("`effort` needs `model`: an effort is asked for together with the model that makes it")


class TaskBatch(_Wire, frozen=True, kw_only=True):
    """`POST /v1/classify/batch`: each task is decoded by itself, so that one bad task never fails its neighbours."""

    tasks: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=100)]
    fleet: Annotated[dict[Name, FleetState], Meta(max_length=1000)] | None = None
    pools: Annotated[dict[Name, PoolState], Meta(max_length=1000)] | None = None
    objective: Objective | None = None
    delay_usd_per_hour: UsdPerHour | None = None
    verifier: Verifier | None = None
    deadline_ms: Annotated[int, Meta(ge=20, le=600_000)] | None = None
