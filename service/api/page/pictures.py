"""Where things stand in the pictures: coordinates for the templates, which have the same numbers in a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LEFT, _RIGHT = 10.0, 710.0
_FOOT, _ROOF = 140.0, 22.0
"""Of the plan's picture, 720 by 180: the lower edge of the track, and the upper one of the line of what is solved."""

_TAIL = 110.0
"""At the end, for what stays unsolved."""

_THICKEST, _THINNEST = 22.0, 1.5

LINE = 160
"""Width of a picture within a row of a table; its height is 16."""


@dataclass(frozen=True, slots=True)
class Rail:
    """A stretch of a line: where its middle is, and how thick it is."""

    y: float
    thick: float


@dataclass(frozen=True, slots=True)
class Switch:
    """One step of a plan: tasks come in on the track, `share` of all leave it solved by the branch, and the rest goes
    on. The branch begins at height `leaves` and ends in `goal`, the line of all that is solved after it.
    """

    number: int
    x: float
    before: Rail
    after: Rail
    branch: Rail
    leaves: float
    goal: Rail
    p_solve: float
    share: float


@dataclass(frozen=True, slots=True)
class Track:
    """A plan as a railway track that gets thinner where tasks leave it, solved."""

    switches: Sequence[Switch]
    left: float
    right: float
    node: float
    unsolved: float


def track(plan: Sequence[Any]) -> Track:
    """Line widths are shares of all tasks, so that one sees what each step is worth."""
    switches: list[Switch] = []
    reached = 1.0
    room = (_RIGHT - _LEFT - _TAIL) / max(len(plan), 1)
    for number, step in enumerate(plan, 1):
        p_solve = min(1.0, max(0.0, float(step["p_solve"])))
        share = reached * p_solve
        goal, thick = _thick(1 - reached + share), _thick(share)
        switches.append(
            Switch(
                number=number,
                x=round(_LEFT + room * (number - 0.75), 1),
                before=_on_foot(reached),
                after=_on_foot(reached - share),
                branch=Rail(round(_ROOF + goal - thick / 2, 2), thick),
                leaves=round(_FOOT - _thick(reached) + thick / 2, 2),
                goal=Rail(round(_ROOF + goal / 2, 2), goal),
                p_solve=p_solve,
                share=share,
            )
        )
        reached -= share
    return Track(switches=switches, left=_LEFT, right=_RIGHT, node=_FOOT - _THICKEST / 2, unsolved=reached)


def across(share: float | None) -> float:
    """Where a share from 0 to 1 stands on a row's line."""
    return round(2 + min(max(share or 0.0, 0.0), 1.0) * (LINE - 4), 1)


def _on_foot(share: float) -> Rail:
    thick = _thick(share)
    return Rail(round(_FOOT - thick / 2, 2), thick)


def _thick(share: float) -> float:
    return round(max(_THINNEST, _THICKEST * share), 2)
