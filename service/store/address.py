"""Where the database is: reads `store.url`, and keeps its password out of everything that is shown."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

from service.contract.errors import ConfigurationError

Backend = Literal["sqlite", "postgresql", "memory"]

EXPECTED = "expected `sqlite:///PATH`, `sqlite://` (memory) or `postgresql://USER:PASSWORD@HOST:PORT/NAME`"
SETTING = "$.store.url"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`place` is fit to be shown; `dsn` is not, and is in no repr."""

    backend: Backend
    place: str
    path: Path | None = None
    dsn: str = field(default="", repr=False)


def parse_address(url: str) -> Address:
    """Reads `sqlite:///PATH` (an absolute PATH makes four slashes), `sqlite://` or `postgresql://…`.

    What follows `?` in a PostgreSQL URL is what libpq knows (`sslmode`, `host` …) or a setting of the session. Raises
    ConfigurationError, which never repeats the URL: a misplaced `/` makes a part of the password look like a host.
    """
    scheme, separator, rest = url.strip().partition("://")
    if separator and scheme in ("sqlite", "sqlite+aiosqlite"):
        return _sqlite(rest)
    if separator and scheme in ("postgresql", "postgres", "postgresql+asyncpg"):
        return _postgresql(f"postgresql://{rest}")
    raise ConfigurationError(EXPECTED, path=SETTING)


def _sqlite(rest: str) -> Address:
    if rest in ("", "/:memory:"):
        return Address(backend="memory", place="memory")
    if not rest.startswith("/") or rest == "/":
        raise ConfigurationError(f"{EXPECTED}; a path follows three slashes", path=SETTING)
    if "?" in rest or "\0" in rest:
        raise ConfigurationError(f"{EXPECTED}; options (`?…`) are not known here", path=SETTING)
    return Address(backend="sqlite", place=rest[1:], path=Path(rest[1:]))


def _postgresql(dsn: str) -> Address:
    hint = "; special characters in a user or a password are written as %XX"
    try:
        parts = urlsplit(dsn)
        hosts = _hosts(parts)
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigurationError(EXPECTED + hint, path=SETTING) from None
    return Address(
        backend="postgresql",
        place=f"postgresql://{hosts or options.get('host', [''])[0]}{parts.path}",
        dsn=dsn,
    )


def _hosts(parts: SplitResult) -> str:
    """`host:port`, or several with commas between them; raises ValueError where a port is no number."""
    hosts = parts.netloc.rpartition("@")[2]
    for host in hosts.split(","):
        if urlsplit(f"//{host}").port is not None and host.startswith(":"):
            raise ValueError("a port without a host")
    return hosts
