"""A kind of work, as the catalog names it, and what is published of a candidate for it."""

from typing import Annotated

import msgspec
from msgspec import Meta

KindId = Annotated[str, Meta(min_length=1, max_length=100)]
"""What a caller, a classifier and an outcome name a kind by."""

SolveRate = Annotated[float, Meta(gt=0, lt=1)]
"""Share of tasks that are solved at the first try."""

MAX_COST_USD = 100_000
"""Of one attempt: more is a mistake."""

CostUsd = Annotated[float, Meta(ge=0, le=MAX_COST_USD)]
"""US dollars for one attempt."""

Minutes = Annotated[float, Meta(gt=0, le=100_000)]
"""How long one attempt takes."""


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What kind of work a task may be. `description` and `examples` are what a text is compared with."""

    id: KindId
    description: Annotated[str, Meta(max_length=1000)] = ""
    examples: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=2000)], ...], Meta(max_length=100)] = ()


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is published of one candidate for one kind; None where its figures for all tasks count."""

    solve_rate: SolveRate | None = None
    cost_usd: CostUsd | None = None
    minutes: Minutes | None = None
