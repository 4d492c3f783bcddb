"""Where the database is, and what must never be shown of it."""

import subprocess
import sys

import pytest

from service.contract.errors import ConfigurationError
from service.store import Store
from service.store.address import parse_address

SECRET = "s3cret/p@ss"
QUOTED = "s3cret%2Fp%40ss"


@pytest.mark.parametrize(
    ("url", "backend", "place"),
    [
        pytest.param("sqlite://", "memory", "memory", id="memory"),
        pytest.param("sqlite:///:memory:", "memory", "memory", id="memory spelt out"),
        pytest.param("sqlite:///data/store.db", "sqlite", "data/store.db", id="relative path"),
        pytest.param("sqlite:////data/my store.db", "sqlite", "/data/my store.db", id="absolute path"),
        pytest.param(f"postgresql://u:{QUOTED}@db:5433/x", "postgresql", "postgresql://db:5433/x", id="postgresql"),
        pytest.param("postgres://db/x", "postgresql", "postgresql://db/x", id="postgres"),
        pytest.param("postgresql+asyncpg://db/x", "postgresql", "postgresql://db/x", id="as SQLAlchemy writes it"),
        pytest.param("postgresql://a:1,b:2/x", "postgresql", "postgresql://a:1,b:2/x", id="several hosts"),
        pytest.param("postgresql:///x?host=/run/pg", "postgresql", "postgresql:///run/pg/x", id="socket"),
        pytest.param(
            f"postgresql://db/x?password={QUOTED}&sslmode=require", "postgresql", "postgresql://db/x", id="options"
        ),
    ],
)
def test_each_form_of_url_is_read(url: str, backend: str, place: str) -> None:
    """SQLite files, memory and PostgreSQL are told apart, and the place that is shown has no credentials."""
    address = parse_address(url)
    assert (address.backend, address.place) == (backend, place)
    assert SECRET not in repr(address)
    assert QUOTED not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="empty"),
        pytest.param("/data/store.db", id="a bare path"),
        pytest.param("mysql://u:s3cret@db/x", id="another database"),
        pytest.param("sqlite://store.db", id="two slashes"),
        pytest.param("sqlite:///", id="no path"),
        pytest.param("sqlite:///store.db?mode=ro", id="options of SQLite"),
        pytest.param("postgresql://u:s3cret/p@ss@db/x", id="a slash in the password"),
        pytest.param("postgresql://u:s3cret@db:port/x", id="port is no number"),
        pytest.param("postgresql://u:s3cret@a:1,b:two/x", id="second port is no number"),
        pytest.param("postgresql://u:s3cret@[::1/x", id="open bracket"),
        pytest.param("postgresql://u:s3cret@db/x?password", id="option without a value"),
    ],
)
def test_anything_else_is_refused_and_not_repeated(url: str) -> None:
    """A wrong URL is a configuration error that names the setting and repeats no part of the password."""
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url)
    assert caught.value.path == "$.store.url"
    assert "s3cret" not in str(caught.value)
    assert "expected `sqlite:///PATH`" in str(caught.value)


def test_a_store_shows_no_password() -> None:
    """Neither the repr nor the status of a store that is not connected holds the password."""
    store = Store(f"postgresql://u:{QUOTED}@db/x")
    shown = f"{store!r} {store.status}"
    assert QUOTED not in shown
    assert SECRET not in shown


def test_a_missing_driver_says_how_to_get_it() -> None:
    """Without asyncpg a PostgreSQL URL is a configuration error with the command that installs it."""
    script = "import sys; sys.modules['asyncpg'] = None; from service.store import Store; Store('postgresql://db/x')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "pip install pointsman[postgresql]" in done.stderr
    assert "ConfigurationError" in done.stderr
