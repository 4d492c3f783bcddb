"""What a task's text tells: found in one pass, and the same as each part by itself."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.classifiers import word_sums
from service.classifiers.kind_words import words_of
from service.classifiers.reading import LONGEST_KEPT, READINGS_KEPT, Reader
from service.classifiers.size_text import estimate_size, size_model
from service.classifiers.word_sums import WordSums
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.task import Task

CATALOG = load_catalog(DEFAULT_CATALOG)
READER = Reader.of(CATALOG)
DATA = Path(__file__).parents[1] / "data"


def assert_read_as_its_parts(name: str, text: str) -> None:
    """Kinds and size of a reading are what each model says of the text by itself."""
    reading = READER.read(Task(name=name, instructions=text))
    alone = estimate_size(name, text)
    kinds = READER.kind_text.probabilities(name, text)
    assert list(reading.kinds.values()) == pytest.approx(kinds, rel=1e-9)
    assert (reading.size.minutes, reading.size.clipped) == (alone.minutes, alone.clipped)
    assert reading.size.features == pytest.approx(alone.features, rel=1e-9)


@pytest.mark.parametrize(
    "file", ["kind_texts.jsonl", "size_texts.jsonl", "agent_tasks.jsonl", "effort_anchors.jsonl"], ids=str
)
def test_real_texts_are_read_as_by_each_model_alone(file: str) -> None:
    """One look at each word for kinds and sizes together says what looking twice would say."""
    for line in (DATA / file).read_text().splitlines():
        row = json.loads(line)
        assert_read_as_its_parts(row.get("name", ""), row["instructions"])


@given(st.text(min_size=1, max_size=300), st.text(max_size=50))
def test_any_text_is_read_as_by_each_model_alone(text: str, name: str) -> None:
    """Likewise any text at all."""
    assert_read_as_its_parts(name, text)


def test_more_words_than_are_remembered_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was forgotten is found again: the sums of words do not depend on which were seen before."""
    monkeypatch.setattr(word_sums, "MEMO", 50)
    sums, fresh = WordSums((READER.kind_text, size_model())), WordSums((READER.kind_text, size_model()))
    rows = [json.loads(line) for line in (DATA / "kind_texts.jsonl").read_text().splitlines()]
    words = [words_of(row["name"], row["instructions"]) for row in rows]
    for one in words:
        sums.of(one)
    for one in words[:20]:
        assert sums.of(one) == [pytest.approx(part) for part in fresh.of(one)]


def test_the_same_text_is_read_once() -> None:
    """A task that is asked about again finds what was read; one that differs in its title does not."""
    reader, task = Reader.of(CATALOG), Task(name="Login", instructions="Fix the login page.")
    first = reader.read(task)
    assert reader.read(Task(name="Login", instructions="Fix the login page.", task_id="again")) is first
    assert reader.read(Task(name="Logout", instructions="Fix the login page.")) is not first


def test_few_and_short_texts_are_remembered() -> None:
    """Many or long texts cannot fill the memory."""
    reader, long = Reader.of(CATALOG), Task(instructions="x " * LONGEST_KEPT)
    assert reader.read(long) is not reader.read(long)
    first = reader.read(Task(instructions="Text 0"))
    for number in range(1, READINGS_KEPT + 1):
        reader.read(Task(instructions=f"Text {number}"))
    assert reader.read(Task(instructions="Text 0")) is not first
