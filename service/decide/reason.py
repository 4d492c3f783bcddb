"""One sentence for a person: why this candidate."""

from functools import lru_cache

from service.base.text import one_line
from service.classifiers.ladder import Classification
from service.classifiers.prompt import Prompts
from service.classifiers.verdict import REASON_LIMIT
from service.contract.decision import Source
from service.forecast.forecaster import Plan


def reason_for(source: Source, found: Classification, prompts: Prompts, plan: Plan, competing: int) -> str:
    """At most 500 characters without control characters. A classifier's own is used unless it quotes the prompt."""
    chosen = plan.steps[0]
    verdict = found.classified.verdict if found.classified else None
    if verdict and source == found.source:
        if verdict.reason and not prompts.leaks(verdict.reason):
            return verdict.reason
        return one_line(f"The classifier chose {chosen.candidate} and gave no reason.", REASON_LIMIT)
    match source:
        case "requested":
            text = f"The caller asked for {chosen.candidate}."
        case "only_candidate":
            text = f"{chosen.candidate} is the only candidate that can take this task now."
        case _:
            text = (
                f"Best expected value of {competing} candidates: {chosen.candidate} solves it at the first try with a "
                f"chance of {chosen.p_solve:.0%} for ${chosen.cost_usd:.2f}"
                + (f", {plan.steps[1].candidate} is next if it fails." if len(plan.steps) > 1 else ".")
            )
    return _cleaned(text)


@lru_cache(256)
def _cleaned(text: str) -> str:
    """Names in a catalog may hold anything. Many tasks share a plan, and so its sentence."""
    return one_line(text, REASON_LIMIT)
