"""`pointsman`, with breakers that never open, so that a load test can let every single request meet a fault."""

import sys

from service.classifiers.breaker import Breaker
from service.cli import main

PROGRAM = (sys.executable, "-m", "tests.support.tireless")
"""For `ServiceProcess`."""


def _heeds_nothing(*_: object, **__: object) -> None:
    """Neither failures in a row nor a Retry-After."""


if __name__ == "__main__":
    Breaker.failed = _heeds_nothing  # type: ignore[method-assign]
    main()
