"""Which candidates may take this task, and why the others may not: rules only, never a model."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from service.base.clock import in_utc, written
from service.contract.catalog import Candidate, Catalog
from service.contract.decision import Excluded, Failure
from service.contract.errors import NoCandidateAvailableError, NoEligibleCandidateError
from service.contract.task import FleetState, Task
from service.decide.budget import too_dear
from service.decide.quota import Quota

FEW = 2
"""Where no more candidates than this may take a task, one that failed it may be tried once more."""

_FAILED = "already failed this task"

RETRY_AFTER_SECONDS = 30
"""What a caller is told where no `available_at` says when something will be free: slots turn over within a minute."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why a pair may not take the task. `passing` ones go away with time; `until` says when, if known."""

    why: str
    passing: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The candidates that passed every rule, in catalog order, and what stood in the way of the others."""

    eligible: tuple[Candidate, ...]
    obstacles: tuple[tuple[Candidate, tuple[Obstacle, ...]], ...]
    again: bool = False
    """Whether a pair that failed once may be tried once more."""

    @property
    def excluded(self) -> list[Excluded]:
        """One entry for each pair that was not eligible; several reasons are joined."""
        return [
            Excluded(
                agent_type=candidate.agent_type,
                model=candidate.model,
                effort=candidate.effort,
                why="; ".join(o.why for o in obstacles),
            )
            for candidate, obstacles in self.obstacles
        ]


def screen(
    catalog: Catalog,
    task: Task,
    *,
    now: datetime,
    cost_usd: Callable[[Candidate], float] | None = None,
    quota: Quota | None = None,
) -> Eligibility:
    """Applies `require`, `fleet`, the `quota` pools, `attempts` and the requested agent type.

    `cost_usd` gives the expected cost of one attempt at this task in US dollars, where there is a limit. An agent type
    that the catalog does not have is ignored, where it is requested and in `fleet`. Where at most two candidates pass
    every other rule, or will in time, one that failed once is eligible once more.
    """
    rules = [
        *_requirements(task, cost_usd),
        _asked_for(task, catalog),
        _interrupted(task, catalog),
        _fleet(task.fleet, catalog, now),
        _used_up(quota),
    ]
    applied = [rule for rule in rules if rule is not None]
    if not applied and not task.attempts:
        return Eligibility(catalog.candidates, (), len(catalog.candidates) <= FEW)
    found = [tuple([o for rule in applied if (o := rule(candidate)) is not None]) for candidate in catalog.candidates]
    again = sum(all(obstacle.passing for obstacle in obstacles) for obstacles in found) <= FEW
    failed = Counter(attempt.key for attempt in task.attempts if attempt.result == "failed")
    eligible: list[Candidate] = []
    obstacles: list[tuple[Candidate, tuple[Obstacle, ...]]] = []
    for candidate, others in zip(catalog.candidates, found, strict=True):
        times = failed[candidate.key] if failed else 0
        if times > again:
            obstacles.append((candidate, (*others, Obstacle(_FAILED if times == 1 else f"{_FAILED} {times} times"))))
        elif others:
            obstacles.append((candidate, others))
        else:
            eligible.append(candidate)
    return Eligibility(tuple(eligible), tuple(obstacles), again)


def refusal(
    eligibility: Eligibility, *, now: datetime, requested: Candidate | None = None, failures: Sequence[Failure] = ()
) -> NoEligibleCandidateError | NoCandidateAvailableError:
    """The error for a task that nothing can take; for a `requested` pair, that this very pair cannot.

    `wait_until` is the first moment at which an `available_at` lets a candidate go. The caller is told to come back
    then, or sooner where another candidate waits for what has no date, such as a slot.
    """
    considered = [entry for entry in eligibility.obstacles if requested is None or entry[0] is requested]
    waiting = [obstacles for _, obstacles in considered if all(obstacle.passing for obstacle in obstacles)]
    subject = "no candidate" if requested is None else f"the requested {requested}"
    # The reasons themselves where they are few; else `excluded` has them.
    why = "`excluded` says why, pair by pair"
    if len(considered) == 1:
        why = "; ".join(obstacle.why for obstacle in considered[0][1])
    if not waiting:
        return NoEligibleCandidateError(
            f"{subject} can take this task: {why}", excluded=eligibility.excluded, failures=failures
        )
    untils = [[obstacle.until for obstacle in obstacles if obstacle.until is not None] for obstacles in waiting]
    dated = [max(moments) for moments in untils if moments]
    wait_until = min(dated, default=None)
    delays = [max(1, math.ceil((wait_until - now).total_seconds()))] if wait_until else []
    if len(dated) < len(waiting):
        delays.append(RETRY_AFTER_SECONDS)
    return NoCandidateAvailableError(
        f"{subject} is available now: {why}",
        excluded=eligibility.excluded,
        wait_until=wait_until,
        retry_after_seconds=min(delays),
        failures=failures,
    )


Rule = Callable[[Candidate], Obstacle | None]


def _requirements(task: Task, cost_usd: Callable[[Candidate], float] | None) -> Iterable[Rule]:
    require = task.require
    if require.agent_types is not None:
        allowed = frozenset(require.agent_types)
        yield lambda c: None if c.agent_type in allowed else Obstacle("its agent type is not in require.agent_types")
    if require.exclude:
        excluded = {pair.name for pair in require.exclude}
        yield lambda c: Obstacle("excluded by require.exclude") if _names(excluded, c) else None
    if require.inputs:
        inputs = tuple(dict.fromkeys(require.inputs))
        yield lambda c: _lacks_inputs(c, inputs)
    if require.context_tokens is not None:
        tokens = require.context_tokens
        yield lambda c: _too_small(c, tokens)
    if require.local_only:
        yield lambda c: None if c.local else Obstacle("its work leaves the premises (require.local_only)")
    if require.max_cost_usd is not None and cost_usd is not None:
        limit = require.max_cost_usd
        yield lambda c: Obstacle(why) if (why := too_dear(cost_usd(c), limit)) else None


def _names(excluded: AbstractSet[tuple[str, str | None]], c: Candidate) -> bool:
    """Whether one of these is its agent, its model whatever the effort, or itself."""
    return not excluded.isdisjoint({(c.agent_type, None), (c.agent_type, c.model), c.key})


def _lacks_inputs(candidate: Candidate, inputs: tuple[str, ...]) -> Obstacle | None:
    missing = [kind for kind in inputs if kind not in candidate.inputs]
    return Obstacle(f"cannot read {' or '.join(missing)}") if missing else None


def _too_small(candidate: Candidate, tokens: int) -> Obstacle | None:
    if candidate.context_tokens is None:
        return Obstacle(f"its context size is not known, and {tokens:,} tokens are required") if tokens else None
    if candidate.context_tokens < tokens:
        return Obstacle(f"its context of {candidate.context_tokens:,} tokens is below the required {tokens:,}")
    return None


def _asked_for(task: Task, catalog: Catalog) -> Rule | None:
    """A registered agent type without a model: only that agent's models compete; without an effort where the model has
    several: only those."""
    agent, model = task.agent_type, task.model
    if agent is None or agent not in catalog.agent_types or not leaves_open(task, catalog):
        return None
    if model is None:
        return lambda c: None if c.agent_type == agent else Obstacle(f"agent type {agent} was asked for")
    asked = f"{agent}/{model} was asked for"
    return lambda c: None if (c.agent_type, c.model) == (agent, model) else Obstacle(asked)


def leaves_open(task: Task, catalog: Catalog) -> bool:
    """Whether what the caller asks for is not one candidate."""
    if task.model is None:
        return True
    mine = [c for c in catalog.candidates if (c.agent_type, c.model) == (task.agent_type, task.model)]
    return task.effort is None and len(mine) > 0 and all(c.effort is not None for c in mine)


def _interrupted(task: Task, catalog: Catalog) -> Rule | None:
    """Attempts that never really ran rule their pair out for now; a rate limit rests the whole quota pool."""
    pairs: dict[tuple[str, str], Obstacle] = {}
    pools: dict[str, Obstacle] = {}
    pool_of = {c.agent_type: c.quota_pool for c in catalog.candidates} if task.attempts else {}
    for attempt in task.attempts:
        pair, pool = attempt.key, pool_of.get(attempt.agent_type)
        if attempt.result == "error":
            pairs.setdefault(pair, Obstacle("ended in an error at an earlier attempt at this task", passing=True))
        elif attempt.result == "rate_limited":
            pairs[pair] = Obstacle("was rate limited at an earlier attempt at this task", passing=True)
            if pool is not None:
                why = f"quota pool {pool}: {pair[0]}/{pair[1]} was rate limited at an earlier attempt at this task"
                pools.setdefault(pool, Obstacle(why, passing=True))
    if not pairs:
        return None
    return lambda c: pairs.get(c.key) or pools.get(c.quota_pool or "")


def _used_up(quota: Quota | None) -> Rule | None:
    """A pool that is used up to its reserve rests until the window begins anew."""
    resting = {name: pool.until for name, pool in quota.pools.items() if pool.until} if quota else {}
    if not resting:
        return None
    obstacles = {
        name: Obstacle(f"quota pool {name} is used up until {written(until)}", passing=True, until=in_utc(until))
        for name, until in resting.items()
    }
    return lambda c: obstacles.get(c.quota_pool or "")


def _fleet(fleet: Mapping[str, FleetState], catalog: Catalog, now: datetime) -> Rule | None:
    if not fleet:
        return None
    own = {agent: _no_slot(state) for agent, state in fleet.items()}
    members: dict[str, list[str]] = {}
    pool_of = {c.agent_type: c.quota_pool or f"agent {c.agent_type}" for c in catalog.candidates}
    for agent in fleet:
        if agent in pool_of:
            members.setdefault(pool_of[agent], []).append(agent)
    shared = {pool: _worst(fleet, agents, now) for pool, agents in members.items()}

    def rule(candidate: Candidate) -> Obstacle | None:
        pooled = shared.get(pool_of[candidate.agent_type])
        slot = own.get(candidate.agent_type)
        if pooled is None or slot is None:
            return pooled or slot
        return Obstacle(f"{slot.why}; {pooled.why}", passing=True, until=pooled.until)

    return rule


def _no_slot(state: FleetState) -> Obstacle | None:
    if state.slots is None or state.running < state.slots:
        return None
    return Obstacle(f"no free slot: {state.running} of {state.slots} in use", passing=True)


def _worst(fleet: Mapping[str, FleetState], agents: list[str], now: datetime) -> Obstacle | None:
    """What makes the whole pool unavailable: the latest `available_at`, else a quota that is used up."""
    later = [(in_utc(at), agent) for agent in agents if (at := fleet[agent].available_at) and at > now]
    spent = [agent for agent in agents if fleet[agent].quota_left is not None and not fleet[agent].quota_left]
    if later:
        until, agent = max(later)
        return Obstacle(f"agent {agent} is not available until {written(until)}", passing=True, until=until)
    if spent:
        return Obstacle(f"the quota of agent {spent[0]} is used up", passing=True)
    return None
