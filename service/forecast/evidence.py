"""What outcomes say, with everything that is alike counted once: results of tasks, given results before them.

log P(what became of a task) is the sum over its outcomes of log P(this one | those before it), and each outcome counts
by its own weight: w · (log L(before and this) − log L(before)), where L is the likelihood of a set of results, the
difficulty integrated out. So every L is counted with the weights of the outcomes that it ends less those of the
outcomes that it precedes. Where all weigh the same, only the whole task is left. What had failed before an outcome and
is not on record itself stands in "before" and never in "this": the outcome is evidence given those failures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from service.forecast.columns import WITHDRAWN, Codes, Columns, Digests, Key, Places, places, ranges
from service.forecast.difficulty import Array
from service.forecast.settings import Settings, settings_of

MINUTES_NEUTRAL = 20.0
"""Minutes that say nothing: near the geometric mean of the human estimates for SWE-bench Verified tasks, on which
difficulty has its mean."""

_NO_MINUTES = -32


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Sets of results (a row of `solved` and `failed`) in a setting, each with a count that may be negative.

    `solved` and `failed` count attempts: patterns × (candidates and, last, any pair that the catalog does not have).
    The i-th set is pattern `pattern[i]` in setting `setting[i]`, and counts `count[i]`; `again[i]` is the same without
    the results that nothing is known to have come before. `rows` are the outcomes used, as numbers into the columns,
    with the candidate of each and the i that is all that is known of its task.
    """

    solved: npt.NDArray[np.int8]
    failed: npt.NDArray[np.int8]
    settings: Settings
    pattern: Codes
    setting: Codes
    count: Array
    again: Array
    rows: Places
    candidate: Codes
    cell: Codes

    @property
    def labels(self) -> Digests:
        """The labels that have a column in the settings."""
        return self.settings.labels


def log_minutes(minutes: float) -> float:
    """Natural log of minutes over the neutral, between a minute and 16 working hours."""
    return log(min(max(minutes, 1.0), 960.0) / MINUTES_NEUTRAL)


def collect(columns: Columns, candidates: Sequence[Key]) -> Evidence:
    """The evidence in what is recorded about these candidates.

    Within a task, outcomes whose decision knew of fewer failures come first, and of those the ones recorded first.
    Where outcomes of one task carry different labels, minutes or kinds, one of the label sets, the longest minutes and
    one of the kinds count.
    """
    number = {key: i for i, key in enumerate(candidates)}
    stranger = len(candidates)
    codes: Codes = np.array([number.get(key, stranger) for key in columns.pairs] or [stranger], dtype=np.int64)
    code = codes[columns.pair]
    live = np.flatnonzero((columns.solved != WITHDRAWN) & ((code < stranger) | (columns.solved == 0)))
    order, starts, task = places(columns.task[live], columns.failed_counts[live])
    rows = live[order]
    who, good = code[rows], columns.solved[rows].astype(np.int64)
    told = _Told(
        columns=columns, rows=rows, codes=codes, who=who, good=good, starts=starts, task=task, stranger=stranger
    )
    chains = _Chains(told)
    setting, settings = settings_of(columns, rows, who < stranger, starts, task, _half_octaves(columns.minutes[rows]))

    known = np.flatnonzero(who < stranger)
    pattern = np.r_[chains.after[known], chains.before[known]]
    keys = pattern * max(len(settings), 1) + np.tile(setting[known], 2)
    weight = columns.weight[rows[known]]
    first = chains.empty[chains.before[known]]
    later = np.where(first, 0.0, weight)
    weight = np.r_[weight, -later]
    last = np.r_[starts[1:], len(rows)][task] - 1
    whole = chains.after[last[known]] * max(len(settings), 1) + setting[known]
    cells, cell = np.unique(np.r_[keys, whole], return_inverse=True)
    count = np.bincount(cell[: len(keys)], weight, len(cells))
    again = np.bincount(cell[: len(keys)], np.r_[later, -later], len(cells))
    kept = (count != 0) | (again != 0)
    kept[cell[len(keys) :]] = True
    used, pattern = np.unique(cells[kept] // max(len(settings), 1), return_inverse=True)
    return Evidence(
        solved=chains.solved[used],
        failed=chains.failed[used],
        settings=settings,
        pattern=pattern,
        setting=cells[kept] % max(len(settings), 1),
        count=count[kept].astype(np.float64),
        again=again[kept].astype(np.float64),
        rows=rows[known],
        candidate=who[known],
        cell=(np.cumsum(kept) - 1)[cell[len(keys) :]],
    )


def _half_octaves(minutes: Array) -> Codes:
    with np.errstate(invalid="ignore"):
        clipped = np.clip(minutes, 1.0, 960.0)
    halves = np.where(np.isnan(clipped), _NO_MINUTES, np.rint(2 * np.log2(clipped / MINUTES_NEUTRAL)))
    return halves.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """Outcomes in the order of `rows`, task by task: who tried, whether it solved, where each task begins, which task
    each is of. `codes` are the candidates of the columns' pairs, `stranger` that of all others."""

    columns: Columns
    rows: Places
    codes: Codes
    who: Codes
    good: Codes
    starts: Places
    task: Places
    stranger: int


class _Chains:
    """For each outcome, in order within its task, the set of results before it and the same with itself.

    `before` and `after` number the patterns; `empty` says which pattern is that of nothing at all.
    """

    def __init__(self, told: _Told) -> None:
        n = len(told.rows)
        begin = told.starts[told.task] if n else np.zeros(0, np.int64)
        self._own = 2 * told.who + told.good
        upto = np.r_[np.zeros(1, np.uint64), np.cumsum(_mix(self._own), dtype=np.uint64)]
        before = upto[:n] - upto[begin]
        of, failed, times = _not_on_record(told)
        self._extra_ends = np.searchsorted(of, np.arange(n), side="right")
        self._extra, self._times = 2 * failed, times
        more = np.zeros(n, np.uint64)
        np.add.at(more, of, _mix(2 * failed) * times.astype(np.uint64))
        before = before + more
        distinct, example, inverse = np.unique(
            np.r_[before, before + _mix(self._own)], return_index=True, return_inverse=True
        )
        self.before, self.after = inverse[:n], inverse[n:]
        self.empty = distinct == 0
        table = self._table(example % max(n, 1), example >= n, begin, 2 * (told.stranger + 1))
        self.failed, self.solved = table[:, 0::2], table[:, 1::2]

    def _table(self, row: Codes, own: npt.NDArray[np.bool_], begin: Codes, width: int) -> npt.NDArray[np.int8]:
        """Results × patterns, from one outcome that each pattern is before or after."""
        found = np.zeros(len(row) * width, dtype=np.int64)
        if len(row):
            at = np.arange(len(row)) * width
            length = row - begin[row] + own
            np.add.at(found, np.repeat(at, length) + self._own[ranges(begin[row], length)], 1)
            first = np.r_[0, self._extra_ends][row]
            length = self._extra_ends[row] - first
            extra = ranges(first, length)
            np.add.at(found, np.repeat(at, length) + self._extra[extra], self._times[extra])
        return np.minimum(found, 100).astype(np.int8).reshape(-1, width)


def _not_on_record(told: _Told) -> tuple[Codes, Codes, Codes]:
    """(place, candidate, how often) of failures that a decision knew of and that no outcome before it tells."""
    n, width, task = len(told.rows), told.stranger + 1, told.task
    counts = told.columns.failed_counts
    flat = ranges((np.cumsum(counts) - counts)[told.rows], counts[told.rows])
    of = np.repeat(np.arange(n), counts[told.rows])
    distinct, times = np.unique(of * width + told.codes[told.columns.failed[flat]], return_counts=True)
    of, failed = distinct // width, distinct % width
    recorded = np.flatnonzero(told.good == 0)
    key = np.sort((task[recorded] * width + told.who[recorded]) * (n + 1) + recorded)
    sought = (task[of] * width + failed) * (n + 1) if n else of
    missing = times - (np.searchsorted(key, sought + of) - np.searchsorted(key, sought))
    left = missing > 0
    return of[left], failed[left], missing[left]


def _mix(code: Codes) -> Digests:
    """SplitMix64 (Steele, Lea and Flood 2014): sums of these tell multisets of codes apart, in any order."""
    z = (code.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Digests = z ^ (z >> np.uint64(31))
    return mixed
