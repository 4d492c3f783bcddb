"""Where things stand in the pictures: coordinates for the templates, which have the same numbers in a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 720, 168
"""Of the plan's picture, in its own units."""

_LEFT, _RIGHT = 70.0, 650.0
_TRACK, _GOAL = 128.0, 30.0
_THICKEST, _THINNEST = 22.0, 1.5

LINE = 160
"""Width of a picture within a row of a table; its height is 16."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One step of a plan: tasks come in on the track, `share` of all leave it solved, and the rest goes on.

    `before`, `solved` and `goal` are how thick the track is before it, the branch, and after it the line of the solved.
    """

    number: int
    x: float
    before: float
    solved: float
    goal: float
    p_solve: float
    share: float


@dataclass(frozen=True, slots=True)
class Track:
    """A plan as a railway track that gets thinner where tasks leave it, solved."""

    switches: Sequence[Switch]
    left: float
    right: float
    track: float
    goal: float
    end: float
    unsolved: float


def track(plan: Sequence[Any]) -> Track:
    """Line widths are shares of all tasks, so that one sees what each step is worth."""
    switches: list[Switch] = []
    reached = 1.0
    room = (_RIGHT - _LEFT) / max(len(plan), 1)
    for number, step in enumerate(plan, 1):
        p_solve = min(1.0, max(0.0, float(step["p_solve"])))
        share = reached * p_solve
        switches.append(
            Switch(
                number=number,
                x=round(_LEFT + room * (number - 0.8), 1),
                before=_thick(reached),
                solved=_thick(share),
                goal=_thick(1 - reached + share),
                p_solve=p_solve,
                share=share,
            )
        )
        reached -= share
    return Track(
        switches=switches,
        left=_LEFT - 60,
        right=_RIGHT + 60,
        track=_TRACK,
        goal=_GOAL,
        end=_thick(reached),
        unsolved=reached,
    )


def across(share: float | None) -> float:
    """Where a share from 0 to 1 stands on a row's line."""
    return round(2 + min(max(share or 0.0, 0.0), 1.0) * (LINE - 4), 1)


def _thick(share: float) -> float:
    return round(max(_THINNEST, _THICKEST * share), 1)
