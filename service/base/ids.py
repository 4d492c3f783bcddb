"""Identifiers that sort by the time they were made."""

import random
import time
import uuid
from collections.abc import Callable
from datetime import datetime


def uuid7(*, now_ns: Callable[[], int] = time.time_ns, random_bytes: Callable[[int], bytes] = random.randbytes) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 12 bits of the time within the millisecond
    (its method 3, so that ids made by one process sort by time), then 62 random bits.

    Those come from a generator that the system seeded, anew in each fork: an id is to be unique and is no secret, and a
    system call for each took a twentieth of a decision.
    """
    milliseconds, nanoseconds = divmod(now_ns(), 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    tail = int.from_bytes(random_bytes(8)) & ((1 << 62) - 1)
    value = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def first_id(moment: datetime) -> str:
    """Not above any UUIDv7 that was made at that moment or later, and above all that were made a millisecond before."""
    digits = f"{max(0, int(moment.timestamp() * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its canonical, lower-case form."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
