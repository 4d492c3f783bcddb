"""The time in which a classifier is waited for: the text is read in it."""

import asyncio
from dataclasses import replace

import pytest

from service.classifiers.classifier import Brief, Classified
from service.classifiers.reading import Reading
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.task import Task
from service.decide import shared_classifiers
from service.decide.shared_classifiers import ASKED_SECONDS
from tests.support.builders import knowledge, pipeline, task
from tests.support.scripted_classifier import Gate, ScriptedClassifier, chooses

KNOWN = knowledge(load_catalog(DEFAULT_CATALOG))


def is_read(request: Task) -> bool:
    """Whether the words of the task's text and its size are known, in the reading that its decision uses."""
    return {"_read", "size"} <= vars(KNOWN.reader.read(request)).keys()


async def test_a_text_is_read_while_a_classifier_is_waited_for() -> None:
    """Of a text nothing is left to be read after the verdict."""
    gate, request = Gate(), task(instructions="fix the flaky login test")
    assert not is_read(request)
    decides = asyncio.create_task(pipeline(ScriptedClassifier(gate), known=KNOWN).decide(request))
    async with asyncio.timeout(20):
        while not is_read(request):  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(ASKED_SECONDS)
    assert gate.came == 1
    gate.open.set()
    assert (await decides).source == "local_model"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"instructions": "fix the flaky logout test"}, id="answered at once"),
        pytest.param({"instructions": "fix the flaky profile test", "kind": "issue"}, id="kind told"),
    ],
)
async def test_nothing_is_read_that_nobody_waits_for_or_needs(
    fields: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A classifier that answers at once is not made to wait, and a task whose kind was told needs no reading."""
    ahead: list[Reading] = []
    late = 0.2  # so that a busy machine, too, has answered at once before it
    monkeypatch.setattr(Reading, "ahead", ahead.append)
    monkeypatch.setattr(shared_classifiers, "ASKED_SECONDS", late)
    request = task(**fields)

    async def slow(brief: Brief, seconds: float) -> Classified:
        await asyncio.sleep(2 * late if brief.task.kind else 0)
        return await chooses()(brief, seconds)

    await pipeline(ScriptedClassifier(slow), known=KNOWN).decide(request)
    await asyncio.sleep(2 * late)
    assert ahead == []


async def test_a_text_that_cannot_be_read_ahead_changes_nothing() -> None:
    """A defect in reading ahead is one when the text is needed, and the caller is answered as before or told."""

    class Broken(Reading):
        def ahead(self) -> None:
            raise ZeroDivisionError

    class Reader:
        def read(self, request: Task) -> Reading:
            return Broken(KNOWN.reader, request.name, request.instructions)

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    gate = Gate()
    known = replace(KNOWN, reader=Reader())  # type: ignore[arg-type]
    decides = asyncio.create_task(pipeline(ScriptedClassifier(gate), known=known).decide(task()))
    async with asyncio.timeout(20):
        while not told:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(ASKED_SECONDS)
    gate.open.set()
    assert (await decides).kind is not None
    assert [type(one) for one in told] == [ZeroDivisionError]
