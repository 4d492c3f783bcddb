"""`pointsman`, with breakers that never open, so that a load test can let every single request meet a fault."""

import sys

from service.classifiers.breaker import Breaker
from service.cli import main

NEVER = 10**9
PROGRAM = (sys.executable, "-m", "tests.support.tireless")
"""For `ServiceProcess`."""

if __name__ == "__main__":
    limits = Breaker.__init__.__kwdefaults__
    assert limits is not None
    limits.update(failures=NEVER, replies=NEVER)
    main()
