"""Stretches of time by the first digits of ids."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.stretches import Gap, before, gaps, last_of, parts_of


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        pytest.param([], [Gap("0194a3b2-1", "0195c0ff-2")], id="nothing kept"),
        pytest.param(
            ["0194a4", "0194a5"], [Gap("0194a3b2-1", "0194a4"), Gap("0194a6", "0195c0ff-2")], id="edges of both sides"
        ),
        pytest.param(
            ["0194f", "019500", "01951"],
            [Gap("0194a3b2-1", "0194f"), Gap("019501", "01951"), Gap("01952", "0195c0ff-2")],
            id="of several lengths",
        ),
    ],
)
def test_gaps_are_what_kept_stretches_leave(kept: list[str], left: list[Gap]) -> None:
    """From the first id to the last, without those of the stretches."""
    assert gaps("0194a3b2-1", "0195c0ff-2", kept) == left


@pytest.mark.parametrize(
    ("until", "last"),
    [
        pytest.param("0195c0ff-2", "0195c0", id="within-it"),
        pytest.param("0195c0", "0195bf", id="where-the-next-begins"),
        pytest.param("0195c", "0195bf", id="where-a-longer-one-begins"),
        pytest.param("0195", "0194ff", id="where-the-longest-begins"),
    ],
)
def test_the_last_stretch_of_a_gap_has_ids_in_it(until: str, last: str) -> None:
    """The one that begins where the gap ends has none."""
    assert last_of(Gap("0194a3b2-1", until)) == last


@given(st.integers(0, 2**32), st.sets(st.integers(0, 400), max_size=40))
def test_every_id_is_in_one_gap_or_one_stretch(seed: int, numbers: set[int]) -> None:
    """None twice and none nowhere, wherever the span begins and ends."""
    chance = random.Random(seed)
    since, until = "01950123-4567", "01951834-0000"
    kept = [name for number in sorted(numbers) if since <= (name := f"{0x019501 + number:06x}") < until[:6]]
    left = gaps(since, until, kept)
    for _ in range(50):
        identifier = f"{chance.randrange(0x01950123_4567, 0x01951834_0000):012x}"
        identifier = f"{identifier[:8]}-{identifier[8:]}-7000-8000-000000000000"
        places = [gap for gap in left if gap.since <= identifier < gap.until]
        assert len(places) + (identifier[:6] in kept) == 1


def test_a_stretch_knows_its_parts_and_what_was_before() -> None:
    """By counting in hexadecimal digits."""
    assert parts_of("0194a")[::15] == ["0194a0", "0194af"]
    names = before("019500")
    assert [next(names), next(names)] == ["0194ff", "0194fe"]
