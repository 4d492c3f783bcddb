"""Server-sent events, however they are cut."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.llm.errors import LLMReplyError
from service.llm.sse import MAX_EVENT_BYTES, EventDecoder


def _decoded(pieces: list[bytes], decoder: EventDecoder | None = None) -> list[bytes]:
    decoder = decoder or EventDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.flush()]


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def _reference(data: bytes) -> list[bytes]:
    """The standard's algorithm on the whole stream at once."""
    lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events: list[bytes] = []
    held: list[bytes] = []
    for line in [*lines, b""]:
        if not line and held:
            events.append(b"\n".join(held))
            held = []
        name, _, value = line.partition(b":")
        if name == b"data":
            held.append(value.removeprefix(b" "))
    return events


PARTS = st.sampled_from(
    [
        b"data: a",
        b"data:",
        b"data",
        b"data:  two",
        b": ping",
        b"event: x",
        b"id: 1",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\r",
        "data: \u2028 é \x85 \x0b".encode(),
        b"\xef\xbb\xbf",
        b"x:data: no",
    ]
)


@given(
    st.lists(PARTS | st.binary(max_size=6), max_size=30).map(b"".join), st.lists(st.integers(0, 10_000), max_size=30)
)
def test_events_are_the_same_however_they_are_cut(data: bytes, places: list[int]) -> None:
    """Cut at any bytes, the events are those of the standard's algorithm on the whole."""
    assert _decoded(_cut(data, places)) == _reference(data)


@pytest.mark.parametrize(
    ("data", "events"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [b"a", b"b"], id="newlines"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="crlf"),
        pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="cr"),
        pytest.param(b": ping\n\n:\n\ndata: a\n\n", [b"a"], id="comments"),
        pytest.param(b"data: a\ndata: b\ndata\n\n", [b"a\nb\n"], id="multi-line"),
        pytest.param(b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"], id="multi-line-crlf"),
        pytest.param(b"event: message\nid: 7\nretry: 10\ndata:a\n\n", [b"a"], id="other-fields"),
        pytest.param(b"event: nothing\n\n", [], id="no-data"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [b"a"], id="byte-order-mark"),
        pytest.param("data: a\u2028b\x85c\u2029\n\n".encode(), ["a\u2028b\x85c\u2029".encode()], id="unicode-newlines"),
        pytest.param(b"data: a\n\ndata: [DONE]", [b"a", b"[DONE]"], id="no-empty-line-at-the-end"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_each_form_of_the_standard_is_read(data: bytes, events: list[bytes]) -> None:
    """Whole and byte by byte, each form gives its events; only CR, LF and CRLF end a line."""
    assert _decoded([data]) == events
    assert _decoded([bytes([byte]) for byte in data]) == events


def test_an_event_is_given_as_soon_as_it_is_complete() -> None:
    """The empty line brings it, also where that is the CR of a CRLF whose LF has not come yet."""
    decoder = EventDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [b"a"]
    assert decoder.feed(b"\ndata: b") == []
    assert decoder.feed(b"\n\n") == [b"b"]


def test_a_line_of_a_mebibyte_is_read_in_linear_time() -> None:
    """A line of 1 MiB in pieces of 16 bytes takes well under a second; joined anew for each piece it takes minutes."""
    line = b"data: " + b"x" * 1_048_576
    pieces = [line[at : at + 16] for at in range(0, len(line), 16)]
    begun = time.perf_counter()
    assert _decoded([*pieces, b"\n\n"]) == [line[6:]]
    assert time.perf_counter() - begun < 10, "a guard against quadratic time, not a measurement"


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"x" * 65_536, id="one-line"),
        pytest.param(b": " + b"x" * 65_536, id="one-comment"),
        pytest.param(b"data: " + b"x" * 65_536 + b"\n", id="many-lines"),
        pytest.param(b"data:\n" * 10_000, id="many-empty-lines"),
    ],
)
def test_an_event_without_end_is_refused(piece: bytes) -> None:
    """A line or an event beyond the limit is an error before it fills the memory."""
    with pytest.raises(LLMReplyError) as caught:
        _decoded([piece] * (2 + 6 * MAX_EVENT_BYTES // len(piece)))
    assert caught.value.problem == "too-large"


def test_comments_between_events_do_not_add_up() -> None:
    """A server that pings for hours is within the limits."""
    decoder = EventDecoder(max_event_bytes=100)
    for _ in range(1000):
        assert decoder.feed(b": ping\n\n") == []
    assert decoder.feed(b"data: a\n\n") == [b"a"]
