"""Identifiers are UUIDv7 and sort by time."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.base.ids import is_uuid, uuid7


@given(st.integers(0, 2**47 * 1_000_000), st.binary(min_size=8, max_size=8))
def test_an_id_is_a_version_7_uuid_of_its_time(now_ns: int, random: bytes) -> None:
    """RFC 9562: milliseconds in the first 48 bits, then version 7, and the variant of the RFC."""
    made = uuid.UUID(uuid7(now_ns=lambda: now_ns, random_bytes=lambda n: random[:n]))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == now_ns // 1_000_000


@given(st.integers(0, 2**60), st.integers(1_000, 2**50))
def test_a_later_id_sorts_after_an_earlier_one(now_ns: int, later_ns: int) -> None:
    """A microsecond is enough, also within one millisecond and whatever the random part."""
    first = uuid7(now_ns=lambda: now_ns, random_bytes=lambda n: b"\xff" * n)
    assert first < uuid7(now_ns=lambda: now_ns + later_ns, random_bytes=lambda n: b"\x00" * n)


def test_ids_differ() -> None:
    """Ten thousand ids made in a row are ten thousand."""
    assert len({uuid7() for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (uuid7(), True),
        (uuid7().upper(), False),
        (uuid7().replace("-", ""), False),
        ("{" + uuid7() + "}", False),
        ("", False),
        ("x" * 36, False),
    ],
    ids=["canonical", "upper-case", "no-hyphens", "braces", "empty", "no-hex"],
)
def test_only_the_canonical_form_is_an_id(text: str, *, is_one: bool) -> None:
    """What a caller sends as an id is compared as text, so only one spelling counts."""
    assert is_uuid(text) is is_one
