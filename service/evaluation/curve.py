"""The cost-quality curve: as characters for a terminal, as SVG for a page. Cost runs on a logarithmic axis."""

import html
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """One way of choosing: its cost per task in US dollars (> 0), its solve rate (0 to 1), and whether it is ours."""

    label: str
    cost_usd: float
    solve_rate: float
    ours: bool


_LEAST_COST = 1e-6


def draw(points: Sequence[Point], *, width: int = 72, height: int = 18) -> str:
    """A scatter of letters with a legend below: capitals are ours."""
    across, up = _scales(points)
    grid = [[" "] * width for _ in range(height)]
    legend: list[str] = []
    ours, others = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), iter("abcdefghijklmnopqrstuvwxyz")
    for point in sorted(points, key=lambda p: (not p.ours, p.cost_usd)):
        sign = next(ours if point.ours else others, "*")
        column = round(across(point.cost_usd) * (width - 1))
        row = height - 1 - round(up(point.solve_rate) * (height - 1))
        grid[row][column] = sign if grid[row][column] == " " else grid[row][column]
        legend.append(f"  {sign} {point.label}: {point.solve_rate:.1%} for ${point.cost_usd:.3f}")
    low, high = _range([p.solve_rate for p in points], 0.02)
    lines = [f"{high - (high - low) * i / (height - 1):6.1%} |{''.join(row)}".rstrip() for i, row in enumerate(grid)]
    cheap, dear = _costs(points)
    axis = f"{'':7}+{'-' * width}\n{'':8}${cheap:.3f}{'cost per task (log)':^{width - 14}}${dear:.3f}"
    return "\n".join([*lines, axis, *legend])


def svg(points: Sequence[Point], *, title: str) -> str:
    """A self-contained SVG picture, 760 by 460."""
    across, up = _scales(points)
    left, right, top, bottom = 70.0, 30.0, 40.0, 50.0
    wide, tall = 760 - left - right, 460 - top - bottom
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 460" font-family="system-ui" font-size="12">',
        '<rect width="760" height="460" fill="#fff"/>',
        f'<text x="{left}" y="22" font-size="15">{html.escape(title)}</text>',
    ]
    low, high = _range([p.solve_rate for p in points], 0.02)
    for i in range(6):
        rate = low + (high - low) * i / 5
        y = top + tall * (1 - i / 5)
        parts.append(
            f'<line x1="{left}" x2="{left + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{rate:.0%}</text>'
        )
    cheap, dear = _costs(points)
    for i in range(5):
        cost = cheap * (dear / cheap) ** (i / 4)
        x = left + wide * i / 4
        parts.append(f'<text x="{x:.1f}" y="{top + tall + 18}" text-anchor="middle">${cost:.3g}</text>')
    parts.append(f'<text x="{left + wide / 2}" y="452" text-anchor="middle">cost per task in USD, logarithmic</text>')
    line = sorted((p for p in points if p.ours), key=lambda p: p.cost_usd)
    path = " ".join(f"{left + wide * across(p.cost_usd):.1f},{top + tall * (1 - up(p.solve_rate)):.1f}" for p in line)
    parts.append(f'<polyline points="{path}" fill="none" stroke="#0a7" stroke-width="2"/>')
    for p in points:
        x, y = left + wide * across(p.cost_usd), top + tall * (1 - up(p.solve_rate))
        colour = "#0a7" if p.ours else "#888"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
            f'<text x="{x + 7:.1f}" y="{y + 4:.1f}" fill="{colour}" font-size="10">{html.escape(p.label)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _scales(points: Sequence[Point]) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From cost and from solve rate to 0..1."""
    cheap, dear = _costs(points)
    low, high = _range([p.solve_rate for p in points], 0.02)
    decades = math.log(dear / cheap)
    return (
        lambda cost: math.log(max(cost, _LEAST_COST) / cheap) / decades,
        lambda rate: (rate - low) / (high - low),
    )


def _costs(points: Sequence[Point]) -> tuple[float, float]:
    costs = [max(p.cost_usd, _LEAST_COST) for p in points]
    return min(costs) / 1.2, max(costs) * 1.2


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    return max(0.0, min(values) - margin), min(1.0, max(values) + margin) + 1e-9
