"""How each kind of database is connected to: its driver, its pool, and what is said on a new connection."""

from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, StaticPool, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.contract.errors import ConfigurationError
from service.store.address import SETTING, Address


def create_engine(address: Address, patience_seconds: float) -> AsyncEngine:
    """Connects when it is first used; ConfigurationError where PostgreSQL's driver is missing."""
    if address.backend == "postgresql":
        return _postgresql(address, patience_seconds)
    database = str(address.path) if address.path else ":memory:"
    url = URL.create("sqlite+aiosqlite", database=database)
    if address.backend == "memory":
        engine = create_async_engine(url, poolclass=StaticPool, hide_parameters=True)
    else:
        engine = create_async_engine(
            url,
            connect_args={"timeout": patience_seconds},
            pool_size=4,
            max_overflow=0,
            pool_timeout=patience_seconds,
            hide_parameters=True,  # a task's text has no place in a log
        )
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def create_reader(address: Address, patience_seconds: float, *, immutable: bool) -> AsyncEngine:
    """Only reads a SQLite file, and leaves nothing beside it.

    A write-ahead log that is there is read with it. Where there is none SQLite would make one, which a folder that may
    not be written refuses; so the file is then taken to be `immutable`, and no change of it is seen.
    """
    database = f"file:{quote(str(address.path))}"
    query = {"mode": "ro", "uri": "true", **({"immutable": "1"} if immutable else {})}
    return create_async_engine(
        URL.create("sqlite+aiosqlite", database=database, query=query),
        connect_args={"timeout": patience_seconds},
        pool_size=4,
        max_overflow=0,
        pool_timeout=patience_seconds,
        hide_parameters=True,
    )


def _postgresql(address: Address, patience_seconds: float) -> AsyncEngine:
    try:
        import asyncpg  # an optional extra, which an installation with SQLite does not have
    except ImportError:
        raise ConfigurationError(
            "PostgreSQL needs its driver: pip install pointsman[postgresql]", path=SETTING
        ) from None

    settings = {} if "application_name=" in address.dsn else {"application_name": "pointsman"}

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        # asyncpg reads the URL itself, so that everything that libpq knows in one works.
        return await asyncpg.connect(address.dsn, timeout=patience_seconds, server_settings=settings)

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=4,
        max_overflow=4,
        pool_timeout=patience_seconds,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,
    )


def _configure_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's, which has no type
    # Begin and commit are said here and not guessed by the driver from the statement.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Of a new file. A decision with a prompt has some 2.4 KB: one on a page of 4 KiB, three on one of 8.
    cursor.execute("PRAGMA page_size = 8192")
    cursor.execute("PRAGMA wal_autocheckpoint = 500")  # 4 MiB, as it is with the usual 1,000 pages of half the size
    # WAL: readers and the writer do not wait for each other. FULL: a commit is on the disk when it returns.
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:  # noqa: ANN401 - sqlalchemy.Connection, whose options are untyped
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
