"""Whether the forecast keeps its word: the chance that a decision gave an attempt, against what became of it."""

import msgspec

from service.contract.outcome import RecordedOutcome, promised

MOST_FAILURES = 3
"""Attempts after so many failures and more are compared together."""

MAX_ROWS = 5000
"""Pairs, kinds and steps that are compared by themselves; catalogs have a few hundred."""

Place = tuple[str, str, str, int]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts of one pair at one kind of task after so many failures: how many, the sum of the chances that they were
    given, and how many of them solved their task."""

    agent_type: str
    model: str
    kind: str
    failures: int
    n: int
    expected: float
    observed: int


class Calibration:
    """Said and seen by pair, kind and number of failures before, of every outcome that counts now.

    An outcome counts where its decision is known and its pair is a step of that decision's plan; the step's chance is
    conditional on every earlier one having failed, and so is the attempt that is reported.
    """

    def __init__(self, rows: list[Compared] | None = None) -> None:
        self._sums: dict[Place, tuple[int, float, int]] = {
            (one.agent_type, one.model, one.kind, one.failures): (one.n, one.expected, one.observed)
            for one in rows or []
        }

    def take(self, recorded: RecordedOutcome, *, back: bool = False) -> None:
        """This outcome counts from now on, or, taken `back`, not any more."""
        said = promised(recorded.outcome, recorded.context)
        if said is None or recorded.context is None:
            return
        (agent_type, model), context, sign = recorded.outcome.pair, recorded.context, -1 if back else 1
        p_solve, failures = said
        kind = recorded.outcome.kind or context.kind or ""
        place = (agent_type, model, kind, min(failures, MOST_FAILURES))
        if place not in self._sums and len(self._sums) >= MAX_ROWS:
            return
        n, expected, observed = self._sums.get(place, (0, 0.0, 0))
        self._sums[place] = (n + sign, expected + sign * p_solve, observed + sign * recorded.outcome.solved)
        if self._sums[place][0] <= 0:
            del self._sums[place]

    def rows(self) -> list[Compared]:
        """In order."""
        return [
            Compared(
                agent_type=agent_type,
                model=model,
                kind=kind,
                failures=failures,
                n=n,
                expected=expected,
                observed=observed,
            )
            for (agent_type, model, kind, failures), (n, expected, observed) in sorted(self._sums.items())
        ]
