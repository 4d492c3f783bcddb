"""The cost-quality curve: as characters for a terminal, as SVG for a page. Cost runs on a logarithmic axis."""

import html
import math
import string
from collections.abc import Sequence
from itertools import chain, repeat

from service.base.text import one_line
from service.evaluation.baselines import Baseline
from service.evaluation.replay import PolicyResult

Point = PolicyResult | Baseline
"""One way of choosing, ours or another."""

_LEAST_COST = 1e-6
_MARGIN = 0.02
_LEFT, _ROWS = 8, 18
MOST_WIDE = 120
"""Characters of a picture in a terminal; wider ones are harder to read."""

_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 460" font-family="system-ui" font-size="12">
<rect width="760" height="460" fill="#fff"/>"""


def _cost(point: Point) -> float:
    return point.cost_usd_per_task


class _Scale:
    """From cost and from solve rate to 0..1, a little wider than the points reach."""

    def __init__(self, points: Sequence[Point]) -> None:
        costs = [max(point.cost_usd_per_task, _LEAST_COST) for point in points]
        rates = [point.solve_rate for point in points]
        self.cheap, self.dear = min(costs) / 1.2, max(costs) * 1.2
        self.low, self.high = max(0.0, min(rates) - _MARGIN), min(1.0, max(rates) + _MARGIN) + 1e-9

    def across(self, point: Point) -> float:
        return math.log(max(point.cost_usd_per_task, _LEAST_COST) / self.cheap) / math.log(self.dear / self.cheap)

    def up(self, point: Point) -> float:
        return (point.solve_rate - self.low) / (self.high - self.low)

    def cost_at(self, share: float) -> float:
        return math.exp(math.log(self.cheap) + share * math.log(self.dear / self.cheap))

    def rate_at(self, share: float) -> float:
        return self.low + (self.high - self.low) * share


def draw(ours: Sequence[PolicyResult], others: Sequence[Baseline], *, width: int = 80) -> str:
    """A scatter of letters, `width` characters wide, with a legend below: capitals are ours. Where there is room beside
    a point its name stands there."""
    scale, columns = _Scale([*ours, *others]), width - _LEFT
    grid = [[" "] * columns for _ in range(_ROWS)]
    legend: list[str] = []
    placed: list[tuple[int, int, str]] = []
    both: tuple[tuple[str, Sequence[Point]], ...] = ((string.ascii_uppercase, ours), (string.ascii_lowercase, others))
    for letters, points in both:
        for sign, point in zip(chain(letters, repeat("*")), sorted(points, key=_cost), strict=False):
            name = one_line(point.name, 200)
            column = round(scale.across(point) * (columns - 1))
            row = _ROWS - 1 - round(scale.up(point) * (_ROWS - 1))
            if grid[row][column] == " ":
                grid[row][column] = sign
                placed.append((row, column, name))
            legend.append(f"  {sign} {name}: {point.solve_rate:.1%} for ${point.cost_usd_per_task:.3f}")
    for row, column, name in placed:
        _name(grid[row], column, name)
    lines = [f"{scale.rate_at(1 - i / (_ROWS - 1)):6.1%} |{''.join(row)}".rstrip() for i, row in enumerate(grid)]
    axis = f"{'':7}+{'-' * columns}\n{'':8}${scale.cheap:.3f}{'cost per task (log)':^{columns - 14}}${scale.dear:.3f}"
    return "\n".join([*lines, axis, *legend])


def _name(row: list[str], column: int, name: str) -> None:
    """Writes a point's name to its right, else to its left; where neither has room, nowhere."""
    needed = len(name) + 1
    for start, text in ((column + 1, f" {name}"), (column - needed, f"{name} ")):
        end = start + needed
        around = row[max(0, start) : end + 1] if start > column else row[max(0, start - 1) : end]
        if start >= 0 and end <= len(row) and set(around) == {" "}:
            row[start:end] = text
            return


def svg(ours: Sequence[PolicyResult], others: Sequence[Baseline], *, title: str) -> str:
    """A self-contained SVG picture, 760 by 460."""
    scale = _Scale([*ours, *others])
    left, right, top, bottom = 70.0, 730.0, 40.0, 410.0

    def at(point: Point) -> tuple[float, float]:
        return left + (right - left) * scale.across(point), bottom - (bottom - top) * scale.up(point)

    parts = [_SVG, f'<text x="{left}" y="22" font-size="15">{html.escape(title)}</text>']
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        y = bottom - (bottom - top) * share
        parts.append(
            f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{scale.rate_at(share):.0%}</text>'
        )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + (right - left) * share
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">${scale.cost_at(share):.3g}</text>')
    middle = (left + right) / 2
    parts.append(f'<text x="{middle}" y="452" text-anchor="middle">cost per task in USD, logarithmic</text>')
    line = " ".join("{:.1f},{:.1f}".format(*at(point)) for point in sorted(ours, key=_cost))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#0a7" stroke-width="2"/>')
    points: list[Point] = [*ours, *others]
    for point in points:
        x, y = at(point)
        colour = "#0a7" if isinstance(point, PolicyResult) else "#888"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
            f'<text x="{x + 7:.1f}" y="{y + 4:.1f}" fill="{colour}" font-size="10">{html.escape(point.name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])
