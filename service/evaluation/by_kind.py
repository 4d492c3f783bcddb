"""Rates and costs for each kind of work, and with the kinds weighted equally."""

from collections.abc import Callable, Sequence

import msgspec

from service.evaluation.recorded import RecordedTask


class KindPart(msgspec.Struct, frozen=True, kw_only=True):
    """The `n` tasks of one kind; money in US dollars."""

    kind: str
    n: int
    solve_rate: float
    cost_usd_per_task: float


class EquallyWeighted(msgspec.Struct, frozen=True, kw_only=True):
    """The mean over kinds, however many tasks each has."""

    solve_rate: float
    cost_usd_per_task: float


def parts(tasks: Sequence[RecordedTask], of: Callable[[Sequence[int]], tuple[float, float]]) -> list[KindPart]:
    """`of` gives rate and cost of the tasks of these places; empty where no task tells a kind."""
    places: dict[str, list[int]] = {}
    for place, task in enumerate(tasks):
        places.setdefault(task.kind_told or "", []).append(place)
    if set(places) <= {""}:
        return []
    found: list[KindPart] = []
    for kind, own in places.items():
        rate, cost = of(own)
        found.append(KindPart(kind=kind, n=len(own), solve_rate=rate, cost_usd_per_task=cost))
    return found


def equally_weighted(kinds: Sequence[KindPart]) -> EquallyWeighted | None:
    """None where there are no kinds."""
    if not kinds:
        return None
    return EquallyWeighted(
        solve_rate=sum(part.solve_rate for part in kinds) / len(kinds),
        cost_usd_per_task=sum(part.cost_usd_per_task for part in kinds) / len(kinds),
    )
