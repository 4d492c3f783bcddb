"""Fits the counts that kind_text ships with, and measures how well kinds are told from texts.

    python -m tests.load.kind_fit measure [--data DIR]   accuracy, log-loss and calibration, in cross-validation
    python -m tests.load.kind_fit sizes                  the same for tiny and huge tasks
    python -m tests.load.kind_fit write                  writes kind_words.json and size_words.json
    python -m tests.load.kind_fit speed                  microseconds a text

The texts were written for this project (tests/data/README.md says how). Folds keep the texts of a language other than
English together: with one text a kind held out, the others of its language would speak against its kind alone.
"""

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from service.classifiers.kind_text import SHIPPED, KindText, WordCounts
from service.classifiers.kind_words import stems_of, words_of
from service.classifiers.size_text import HUGE, NORMAL, SIZES, TINY, size_model
from service.classifiers.size_text import SHIPPED as SIZES_SHIPPED
from service.classifiers.word_sums import WordSums
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.kind import Kind
from tests.support.recorded_tasks import Array, data_directory, read_lines

DATA = Path(__file__).parents[1] / "data"
FOLDS = 10
TINY_UP_TO, HUGE_FROM = 5, 960
"""Minutes of a statement that make it tiny or huge."""
BINS = (0.0, 0.4, 0.6, 0.8, 0.9, 1.0001)

Row = dict[str, Any]
Said = Callable[[Row], Sequence[float]]


def main() -> None:
    """Runs the part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["measure", "sizes", "write", "speed"])
    parser.add_argument("--data", type=Path, default=data_directory())
    options = parser.parse_args()
    kinds = load_catalog(DEFAULT_CATALOG).kinds
    seeds, texts = read_lines(DATA / "kind_seeds.jsonl"), read_lines(DATA / "kind_texts.jsonl")
    if options.part == "write":
        _write(SHIPPED, counts_of(seeds + texts))
        _write(SIZES_SHIPPED, size_counts(kinds))
    elif options.part == "sizes":
        _sizes(kinds, options.data)
    elif options.part == "speed":
        _speed(KindText(kinds), texts)
    else:
        _measure(kinds, seeds, texts, options.data)


def counts_of(rows: Sequence[Row]) -> WordCounts:
    """In how many of these texts of each kind each word stands."""
    counts = WordCounts()
    for row in rows:
        counts.add(row["kind"], row.get("name", ""), row["instructions"])
    return counts


def folds(texts: Sequence[Row], seed: int) -> list[int]:
    """The fold of each text: English ones stratified by kind, others by language."""
    draw = random.Random(seed)
    groups: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(texts):
        groups[row["kind"] if row["lang"] == "en" else "other"].append(i)
    fold = [0] * len(texts)
    for name, members in groups.items():
        languages = sorted({texts[i]["lang"] for i in members})
        draw.shuffle(languages)
        draw.shuffle(members)
        for place, i in enumerate(members):
            fold[i] = (languages.index(texts[i]["lang"]) if name == "other" else place) % FOLDS
    return fold


def cross_validated(kinds: Sequence[Kind], seeds: Sequence[Row], texts: Sequence[Row], seed: int) -> Array:
    """What is said of each text by a model that was not fitted to its fold."""
    fold = folds(texts, seed)
    said = np.zeros((len(texts), len(kinds)))
    for part in range(FOLDS):
        rest = [row for row, of in zip(texts, fold, strict=True) if of != part]
        model = KindText(kinds, shipped=counts_of([*seeds, *rest]).words)
        for i, row in enumerate(texts):
            if fold[i] == part:
                said[i] = model.probabilities(row.get("name", ""), row["instructions"])
    return said


def overlap(kinds: Sequence[Kind], texts: Sequence[Row]) -> Array:
    """Plain word overlap: the share of a kind's distinct words, of its description and examples, that a text has."""
    vocabulary = [
        {stem for text in (kind.description, *kind.examples) for word in words_of("", text) for stem in stems_of(word)}
        for kind in kinds
    ]
    said = np.zeros((len(texts), len(kinds)))
    for i, row in enumerate(texts):
        own = {stem for word in words_of(row.get("name", ""), row["instructions"]) for stem in stems_of(word)}
        score = np.array([len(own & words) / len(words) ** 0.5 for words in vocabulary]) + 0.01
        said[i] = score / score.sum()
    return said


def _measure(kinds: Sequence[Kind], seeds: Sequence[Row], texts: Sequence[Row], data: Path | None) -> None:
    ids = [kind.id for kind in kinds]
    truth = np.array([ids.index(row["kind"]) for row in texts])
    share = np.bincount(truth, minlength=len(ids)) / len(truth)
    print(f"{len(texts)} texts: {dict(zip(ids, np.bincount(truth).tolist(), strict=True))}")
    _print("majority baseline", np.tile(share, (len(texts), 1)), truth)
    _print("word overlap with description and examples", overlap(kinds, texts), truth)
    custom = KindText(kinds, shipped={})
    _print("description and examples alone (as a kind of one's own)", _said(custom, texts), truth)
    seeded = KindText(kinds, shipped=counts_of(seeds).words)
    _print("with the seed words, no text seen", _said(seeded, texts), truth)
    everything = [cross_validated(kinds, seeds, texts, seed) for seed in range(5)]
    _print("10-fold cross-validation, five shuffles", np.vstack(everything), np.tile(truth, 5), calibrated=True)
    english = np.array([row["lang"] == "en" for row in texts])
    _print("  of them English", everything[0][english], truth[english])
    _print("  of them other languages", everything[0][~english], truth[~english])
    if data is not None:
        rows = [
            {**row, "kind": row["labels"]["kind"]}
            for row in read_lines(data / "openhands_dev.jsonl")
            if row["labels"]["kind"] in ("issue", "testing")
        ]
        shipped = KindText(kinds, shipped=counts_of([*seeds, *texts]).words)
        real = np.array([ids.index(row["kind"]) for row in rows])
        _print(f"{len(rows)} recorded texts, none of them seen", _said(shipped, rows), real, calibrated=True)


def _said(model: KindText, rows: Sequence[Row]) -> Array:
    return np.array([model.probabilities(row.get("name", ""), row["instructions"]) for row in rows])


def _print(title: str, said: Array, truth: Array, *, calibrated: bool = False) -> None:
    sure, right = said.max(axis=1), said.argmax(axis=1) == truth
    loss = -np.log(said[np.arange(len(truth)), truth.astype(int)]).mean()
    print(f"{title}: right {right.mean():.3f}, log-loss {loss:.3f}")
    for low, high in pairwise(BINS) if calibrated else ():
        within = (sure >= low) & (sure < high)
        if within.any():
            print(f"    said {sure[within].mean():.2f}  right {right[within].mean():.2f}  n {within.sum()}")


def size_counts(kinds: Sequence[Kind]) -> WordCounts:
    """Words of tiny, normal and huge tasks; none of the texts on which sizes are measured is among them."""
    measured = {row["instructions"] for row in read_lines(DATA / "size_texts.jsonl")}
    counts = WordCounts()
    for row in read_lines(DATA / "size_seeds.jsonl"):
        counts.add(row["size"], "", row["instructions"])
    for row in read_lines(DATA / "effort_anchors.jsonl"):
        minutes = row["minutes"]
        size = TINY if minutes <= TINY_UP_TO else HUGE if minutes >= HUGE_FROM else NORMAL
        counts.add(size, "", row["instructions"])
    for row in read_lines(DATA / "kind_texts.jsonl"):
        if row["instructions"] not in measured:
            counts.add(row.get("size", NORMAL), row["name"], row["instructions"])
    for kind in kinds:
        for example in kind.examples:
            counts.add(NORMAL, "", example)
    return counts


def _sizes(kinds: Sequence[Kind], data: Path | None) -> None:
    model = KindText(SIZES, shipped=size_counts(kinds).words)
    rows = [{**row, "kind": row["size"]} for row in read_lines(DATA / "size_texts.jsonl")]
    for size in (TINY, HUGE):
        own = [row for row in rows if row["size"] == size]
        truth = np.full(len(own), [one.id for one in SIZES].index(size))
        _print(f"{len(own)} {size} texts, none of them seen", _said(model, own), truth)
    if data is not None:
        issues = read_lines(data / "swebench_dev.jsonl")
        said = _said(model, issues)
        print(
            f"{len(issues)} recorded issues: taken for tiny {np.mean(said.argmax(axis=1) == 0):.3f}, "
            f"for huge {np.mean(said.argmax(axis=1) == 2):.3f}"
        )


def _write(path: Path, counts: WordCounts) -> None:
    lines = [
        f"{json.dumps(word, ensure_ascii=False)}: {json.dumps(counts.words[word])}" for word in sorted(counts.words)
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{path.name}: {len(lines)} words")


def _speed(model: KindText, texts: Sequence[Row]) -> None:
    sums = WordSums((model, size_model()))
    long = "The export of the orders fails with a timeout when there are many rows in the table. " * 100
    groups = {
        "the texts": [(row["name"], row["instructions"]) for row in texts],
        "8,500 characters": [("", long)],
        "200,000 characters, distinct words": [("", " ".join(f"w{chr(97 + i % 26)}{i}" for i in range(30_000)))],
        "Chinese, 5,000 characters": [("", "请修复登录接口返回错误的问题并更新文档" * 250)],
    }
    for name, group in groups.items():
        for pair in group:
            model.of_sums(sums.of(words_of(*pair))[0])
        times: list[float] = []
        for _ in range(max(2000 // len(group), 5)):
            for pair in group:
                started = time.perf_counter()
                model.of_sums(sums.of(words_of(*pair))[0])
                times.append(time.perf_counter() - started)
        p50, p99 = np.percentile(np.array(times) * 1e6, [50, 99])
        print(f"{name}: p50 {p50:.0f} µs, p99 {p99:.0f} µs")


if __name__ == "__main__":
    main()
