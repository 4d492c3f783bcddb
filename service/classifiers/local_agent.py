"""The agent that this service runs itself goes with the local model's endpoint: while that one fails, so does it."""

from collections.abc import Sequence

from service.contract.catalog import LOCAL_AGENT, Candidate


def not_local(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those of `candidates` that are left while the endpoint fails: all of them where nothing else is among them."""
    others = tuple(candidate for candidate in candidates if candidate.agent_type != LOCAL_AGENT)
    return others or tuple(candidates)
