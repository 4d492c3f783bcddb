"""`pointsman`, with breakers that never open, so that a load test can let every single request meet a fault."""

from service.classifiers.breaker import Breaker
from service.cli import main

NEVER = 10**9

if __name__ == "__main__":
    limits = Breaker.__init__.__kwdefaults__
    assert limits is not None
    limits.update(failures=NEVER, replies=NEVER)
    main()
