"""What every classifier is given, what it gives, and how it fails."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import msgspec

from service.classifiers.prompt import Prompts, Question
from service.classifiers.verdict import Verdict
from service.contract.catalog import Candidate, Catalog
from service.contract.decision import Source, Usage
from service.contract.errors import PointsmanError
from service.contract.task import Task


class Blame(Enum):
    """Whose fault a failure was; only the classifier's own shuts everybody out, so that no task or caller can."""

    CLASSIFIER = "classifier"
    """It is down, refuses, or was given its time and did not answer."""
    REPLY = "reply"
    """It answered, with something of no use: the model's weakness, or a task text that drove it there."""
    REQUEST = "request"
    """This task did not suit it (too long for its context), or it was not given any time."""
    HASTE = "haste"
    """It did not answer within the little time that the caller left it: that tells others in as much haste."""


KEPT_REPLY = 8_000
"""Characters of a reply that are kept to be shown: a verdict has some 300, and thousands of them are remembered."""


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """One task to be classified: what is eligible, of which catalog, and what a solved task is worth (US dollars)."""

    task: Task
    eligible: Sequence[Candidate]
    catalog: Catalog
    prompts: Prompts
    value_usd: float
    shortlist: tuple[Candidate, ...] = ()
    """The forecast's best of those that are eligible, where they are too many to be asked about; else empty."""

    def question(self, *, max_task_tokens: int, random_bytes: Callable[[int], bytes]) -> Question:
        """What a classifier is asked; a longer task is clipped."""
        return self.prompts.question(
            self.task,
            self.eligible,
            value_usd=self.value_usd,
            max_task_tokens=max_task_tokens,
            random_bytes=random_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """A verdict, what it cost, and for the record what was asked and answered (its first `KEPT_REPLY` characters)."""

    verdict: Verdict
    usage: Usage
    prompt: str
    reply: str


def total(a: Usage, b: Usage) -> Usage:
    """What two calls spent together."""
    return Usage(
        tokens_in=a.tokens_in + b.tokens_in, tokens_out=a.tokens_out + b.tokens_out, cost_usd=a.cost_usd + b.cost_usd
    )


class ClassifierError(PointsmanError):
    """A classifier gave no verdict. `problem` is a short kebab-case word; `str()` says what happened, in words.

    `retry_after` is in seconds, where a server told it. `usage` was spent all the same.
    """

    def __init__(
        self,
        problem: str,
        detail: str,
        *,
        blame: Blame = Blame.CLASSIFIER,
        retry_after: float | None = None,
        usage: Usage | None = None,
        prompt: str = "",
        reply: str = "",
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.blame = blame
        self.retry_after = retry_after
        self.usage = usage or Usage()
        self.prompt = prompt
        self.reply = reply
        self.given_seconds: float | None = None
        """How long the server or program was given that did not answer in time, any wait in a queue of our own aside;
        None where that is not what happened. Whose fault it was is then seen by what it usually takes."""


class Classifier(Protocol):
    """Something that reads the task and names a candidate."""

    source: Source
    """What decisions by it carry as `source`."""
    name: str
    """What people know it by, such as the endpoint's model or the program."""
    local: bool
    """Whether what it is shown stays inside; else it is not asked where `require.local_only` is set."""
    timeout_seconds: float
    """The most time that it is given, however much the caller has."""
    least_seconds: float
    """What it is thought to need as long as it has not answered yet: as much is kept back for it."""
    patience_seconds: float
    """A time-out with less than this was the caller's haste, also where it usually answers sooner."""

    def available(self) -> bool:
        """Whether it can be asked at all, as far as that is seen without asking: its program is there."""
        ...

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """Names a candidate within the time given, or raises ClassifierError; may be cancelled at any moment."""
        ...

    async def aclose(self) -> None:
        """Ends what is still under way and leaves nothing behind."""
        ...
