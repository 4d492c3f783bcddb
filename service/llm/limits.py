"""Within which limits a client asks, and by which clocks it measures them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one client. What may pass is tried again, `max_attempts` tries in all."""

    timeout_seconds: float
    """For one answer, where the call says nothing else."""
    max_concurrency: int = 8
    max_body_bytes: int = 1 << 20
    """A verdict has 300 bytes, and the longest answer of a local model some 100 KB."""
    max_stream_bytes: int = 1 << 25
    """Some 100,000 tokens, each in a chunk of 300 bytes."""
    max_attempts: int = 3
    first_wait_seconds: float = 1.0
    """Before the second try, where the server does not say; twice as long before the third."""
    waits_when_told: bool = True
    """Off: a server that asks to be left alone (Retry-After) is not waited for, and the call fails at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The clocks, in seconds, how to sleep, and chance from 0 to 1; a test brings its own."""

    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
