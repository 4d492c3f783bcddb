"""A recorded task put through its first plan to the end, by a scheduler that does not ask again after a failure."""

from service.contract.outcome import Outcome
from service.contract.task import key_of
from service.decide.pipeline import Pipeline
from service.evaluation.recorded import Names, RecordedTask
from service.evaluation.replay import Played, Report


async def follow(pipeline: Pipeline, task: RecordedTask, *, names: Names, value_usd: float, report: Report) -> Played:
    """Decided once; each step's recorded outcome is reported by the id of that one decision."""
    decision = await pipeline.decide(names.request(task, value_usd=value_usd))
    models, cost_usd = list[str](), 0.0
    for number, step in enumerate(decision.plan, 1):
        models.append(names.of[key_of(step.agent_type, step.model, step.effort)])
        outcome = task.outcomes[models[-1]]
        cost_usd += outcome.cost_usd
        await report(
            Outcome(
                decision_id=decision.decision_id,
                agent_type=step.agent_type,
                model=step.model,
                effort=step.effort,
                attempt=number,
                solved=outcome.solved,
                cost_usd=outcome.cost_usd,
            )
        )
        if outcome.solved:
            return Played(solved=True, cost_usd=cost_usd, models=models, seconds=[])
    return Played(solved=False, cost_usd=cost_usd, models=models, seconds=[])
