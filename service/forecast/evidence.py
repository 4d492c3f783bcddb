"""What outcomes say, with everything that is alike counted once: response patterns of tasks in their settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from service.forecast.difficulty import Array
from service.forecast.history import WITHDRAWN, Codes, Columns, Digests

MIN_LABELLED = 5
"""An offset is kept for a label that at least so many outcomes carry; shrinkage leaves little of rarer ones."""

MAX_LABELS = 128
"""Offsets are kept for at most so many labels, those with the most outcomes; the fit is cubic in their number."""

MINUTES_NEUTRAL = 20.0
"""Minutes that say nothing: near the geometric mean of the human estimates for SWE-bench Verified tasks, on which
difficulty has its mean."""

_NO_MINUTES = -32


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Tasks that show the same results (row of `solved` and `failed`) in the same setting (row of `settings`).

    `solved` and `failed` count attempts: patterns × candidates. A row of `settings` is what shifts the mean of
    difficulty: 1 for every task, log minutes over neutral, then 0 or 1 for each label. `count[i]` tasks have
    pattern `pattern[i]` and setting `setting[i]`. `rows` are the outcomes used, as numbers into the columns, with the
    candidate and the task's i of each.
    """

    solved: Array
    failed: Array
    settings: Array
    labels: Digests
    pattern: Codes
    setting: Codes
    count: Array
    rows: npt.NDArray[np.intp]
    candidate: Codes
    cell: Codes


def log_minutes(minutes: float) -> float:
    """Natural log of minutes over the neutral, between a minute and 16 working hours."""
    return log(min(max(minutes, 1.0), 960.0) / MINUTES_NEUTRAL)


def collect(columns: Columns, candidates: Sequence[tuple[str, str]]) -> Evidence:
    """The evidence in what is recorded about these candidates; the order of the rows changes nothing.

    Where outcomes of one task carry different labels or minutes, one of the label sets and the longest minutes count.
    """
    number = {key: i for i, key in enumerate(candidates)}
    lookup = np.array([number.get(key, -1) for key in columns.pairs] or [-1], dtype=np.int64)
    known: Codes = lookup[columns.pair]
    rows = np.flatnonzero((known >= 0) & (columns.solved != WITHDRAWN))
    who: Codes = known[rows]
    good = columns.solved[rows].astype(np.int64)

    label_set, sets, labels = _label_sets(columns, rows)
    starts, order = _tasks(columns.task[rows])
    shown = np.add.reduceat(_mix(2 * who + good)[order], starts) if len(rows) else np.zeros(0, np.uint64)
    labelled = np.maximum.reduceat(label_set[order], starts) if len(rows) else np.zeros(0, np.int64)
    with np.errstate(invalid="ignore"):
        clipped = np.clip(columns.minutes[rows], 1.0, 960.0)
    halves = np.where(np.isnan(clipped), _NO_MINUTES, np.rint(2 * np.log2(clipped / MINUTES_NEUTRAL))).astype(np.int64)
    minutes = np.maximum.reduceat(halves[order], starts) if len(rows) else np.zeros(0, np.int64)

    patterns, example, pattern = np.unique(shown, return_index=True, return_inverse=True)
    keys, setting = np.unique(labelled * 64 + (minutes + 32), return_inverse=True)
    settings = np.zeros((len(keys), 2 + len(labels)))
    settings[:, 0] = 1.0
    halves_of = keys % 64 - 32
    settings[:, 1] = np.where(halves_of == _NO_MINUTES, 0.0, halves_of * (np.log(2.0) / 2))
    settings[:, 2:] = sets[keys // 64]
    cells, cell, count = np.unique(pattern * max(len(keys), 1) + setting, return_inverse=True, return_counts=True)
    task = np.empty(len(rows), np.int64)
    task[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(rows)]))
    solved, failed = _responses(len(patterns), example, starts, order, who, good, len(candidates))
    return Evidence(
        solved=solved,
        failed=failed,
        settings=settings,
        labels=labels,
        pattern=cells // max(len(keys), 1),
        setting=cells % max(len(keys), 1),
        count=count.astype(np.float64),
        rows=rows,
        candidate=who,
        cell=cell[task],
    )


def _label_sets(columns: Columns, rows: npt.NDArray[np.intp]) -> tuple[Codes, Array, Digests]:
    """For each row the number of its set of kept labels, the sets as rows of 0 and 1, and the kept labels."""
    of_row = np.repeat(np.arange(len(columns.pair)), columns.label_counts)
    place = np.full(len(columns.pair), -1)
    place[rows] = np.arange(len(rows))
    of_row = place[of_row]
    flat = columns.labels[of_row >= 0]
    of_row = of_row[of_row >= 0]
    distinct, counts = np.unique(flat, return_counts=True)
    frequent = np.lexsort((distinct, -counts))[:MAX_LABELS]
    labels = np.sort(distinct[frequent[counts[frequent] >= MIN_LABELLED]])
    if not len(labels):
        return np.zeros(len(rows), np.int64), np.zeros((1, 0)), labels
    which = np.minimum(np.searchsorted(labels, flat), len(labels) - 1)
    kept = labels[which] == flat
    of_row, which = of_row[kept], which[kept]
    digest = np.zeros(len(rows), np.uint64)
    if len(of_row):
        begin = np.flatnonzero(np.r_[True, of_row[1:] != of_row[:-1]])
        digest[of_row[begin]] = np.add.reduceat(_mix(which + 1), begin)
    distinct_sets, example, number = np.unique(digest, return_index=True, return_inverse=True)
    sets = np.zeros((len(distinct_sets), len(labels)))
    set_of_example = np.full(len(rows), -1)
    set_of_example[example] = np.arange(len(distinct_sets))
    target = set_of_example[of_row]
    sets[target[target >= 0], which[target >= 0]] = 1.0
    return number, sets, labels


def _tasks(task: Digests) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where each task begins in the order that puts its outcomes together; a digest of 0 is a task by itself."""
    order = np.argsort(task, kind="stable")
    together = task[order]
    return np.flatnonzero(np.r_[True, (together[1:] != together[:-1]) | (together[1:] == 0)][: len(task)]), order


def _responses(
    patterns: int,
    example: npt.NDArray[np.intp],
    starts: npt.NDArray[np.intp],
    order: npt.NDArray[np.intp],
    who: Codes,
    good: Codes,
    candidates: int,
) -> tuple[Array, Array]:
    """The attempts of one example task for each pattern."""
    ends = np.r_[starts[1:], len(order)]
    lengths = ends[example] - starts[example]
    pattern = np.repeat(np.arange(patterns), lengths)
    before: Codes = np.cumsum(lengths) - lengths
    within = np.arange(len(pattern)) - np.repeat(before, lengths)
    outcome = order[np.repeat(starts[example], lengths) + within]
    cell = (pattern * 2 + good[outcome]) * candidates + who[outcome]
    table = np.bincount(cell, minlength=patterns * 2 * candidates).reshape(patterns, 2, candidates)
    return table[:, 1].astype(np.float64), table[:, 0].astype(np.float64)


def _mix(code: Codes) -> Digests:
    """SplitMix64 (Steele, Lea and Flood 2014): sums of these tell multisets of codes apart, in any order."""
    z = (code.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Digests = z ^ (z >> np.uint64(31))
    return mixed
