"""The time in which a classifier is waited for: the text is read in it."""

import asyncio

import pytest

from service.classifiers.reading import Reader, Reading
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.task import Task
from service.decide.read_ahead import BEGINS_SECONDS, read_ahead


@pytest.fixture(scope="module")
def reader() -> Reader:
    """Of the catalog that ships."""
    return Reader.of(load_catalog(DEFAULT_CATALOG))


def is_read(reading: Reading) -> bool:
    """Whether the words of the text and its size are known."""
    return {"_read", "size"} <= vars(reading).keys()


async def test_a_text_is_read_while_a_classifier_is_waited_for(reader: Reader) -> None:
    """After the verdict nothing of it is left to be read."""
    reading = reader.read(Task(instructions="fix the flaky login test"))
    with read_ahead(reading):
        assert not is_read(reading)
        await asyncio.sleep(5 * BEGINS_SECONDS)
        assert is_read(reading)


async def test_an_answer_at_once_is_not_made_to_wait(reader: Reader) -> None:
    """What has answered before the reading begins leaves it to whoever needs it, and no timer behind."""
    reading = reader.read(Task(instructions="fix the flaky logout test"))
    with read_ahead(reading):
        await asyncio.sleep(0)
    await asyncio.sleep(5 * BEGINS_SECONDS)
    assert not is_read(reading)


async def test_a_failure_on_the_way_stays_one(reader: Reader) -> None:
    """What is raised while a classifier is waited for is passed on, and the reading is called off."""
    reading = reader.read(Task(instructions="fix the flaky signup test"))
    with pytest.raises(TimeoutError), read_ahead(reading):
        raise TimeoutError
    await asyncio.sleep(5 * BEGINS_SECONDS)
    assert not is_read(reading)
