"""The agent that this service runs itself goes with its endpoint: while that one fails, so does the agent."""

from dataclasses import replace

from service.classifiers.local_agent import not_local
from service.contract.catalog import LOCAL_AGENT, Candidate
from service.decide.eligibility import Eligibility, Obstacle


def without_local_agent(eligibility: Eligibility, problem: str, *, requested: Candidate | None = None) -> Eligibility:
    """The same, with agent type `local` not available because of `problem`, the short word for how its endpoint fails.

    Unchanged where `problem` is empty, where nothing else is eligible, and where the `requested` pair is of that type.
    """
    if not problem:
        return eligibility
    others = not_local(eligibility.eligible)
    asked_for = requested is not None and requested.agent_type == LOCAL_AGENT
    if len(others) == len(eligibility.eligible) or asked_for:
        return eligibility
    obstacle = Obstacle(f"its endpoint does not serve now ({problem})", passing=True)
    down = tuple((c, (obstacle,)) for c in eligibility.eligible if c.agent_type == LOCAL_AGENT)
    return replace(eligibility, eligible=others, obstacles=(*eligibility.obstacles, *down))
