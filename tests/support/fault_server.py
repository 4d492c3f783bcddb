"""The fake endpoint as a process of its own, for load tests, so that what it does costs the measuring process nothing.

Reads commands on stdin, a line each: the name of a fault, `good`, or `mixed SEED HEALTHY`; answers each with the number
of requests before it.
"""

import ssl
import subprocess
import sys
from types import TracebackType
from typing import Self

from tests.support.fake_endpoint import FakeEndpoint
from tests.support.faults import WRAPPED, endpoint_faults, good, mixture
from tests.support.service_process import ROOT, process_environ


def _untrusted() -> ssl.SSLContext:
    import trustme  # only here: most load tests need no certificate

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType] - pyOpenSSL, not here
    return context


def _main() -> None:
    with FakeEndpoint(tls=_untrusted() if "--tls" in sys.argv else None) as fake:
        fake.always(good())
        print(fake.url, flush=True)
        for line in sys.stdin:
            count = len(fake.requests)
            fake.clear()
            match line.split():
                case ["good"]:
                    fake.always(good())
                case ["mixed", seed, healthy]:
                    fake.choose(mixture(int(seed), float(healthy)))
                case [name]:
                    fake.always({**endpoint_faults(), **WRAPPED}[name])
                case _:
                    break
            print(count, flush=True)


class FaultServer:
    """The process; a context manager. `url` is what an endpoint setting takes. With `tls` it speaks HTTPS by a
    certificate that nobody trusts."""

    def __init__(self, *, tls: bool = False) -> None:
        self._arguments = ["--tls"] if tls else []
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        """Starts it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fault_server", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=process_environ({}),
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kills it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def show(self, command: str) -> int:
        """From now on that; gives the number of requests since the last time."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


if __name__ == "__main__":
    _main()
