"""Why the database did not do it, in words that are fit for a caller: neither SQL nor a password is in them."""

import socket
import sqlite3
import ssl

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.store.ownership import OwnedElsewhereError

NO_WRITING = "neither the file nor its folder may be written"
CANNOT_OPEN = "the file cannot be opened or created; is there such a directory, and may it be written?"
_FULL = "the disk is full"
_NO_ROOM = "the disk is full, or a quota or a limit on the size of a file is reached"
FULL = frozenset({_FULL, _NO_ROOM})
"""What is said where there is no room for more."""

_SQLITE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_BUSY: "the database is locked by another process",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_CANTOPEN: CANNOT_OPEN,
    sqlite3.SQLITE_READONLY: "the file may not be written",
    sqlite3.SQLITE_PERM: "the file may not be read",
    sqlite3.SQLITE_AUTH: "the file may not be read",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
}
_SQLITE_DETAILED = {
    sqlite3.SQLITE_IOERR_WRITE: _NO_ROOM,
    sqlite3.SQLITE_IOERR_SHMSIZE: _NO_ROOM,
}
"""SQLite says FULL only for ENOSPC; a quota (EDQUOT) and a limit (EFBIG) end as the first of these, and a disk that is
too full for the index of the write-ahead log as the second."""

_POSTGRESQL = {
    "53100": "the database's disk is full",
    "53200": "the database is out of memory",
    "53300": "the database has no connection left",
    "28000": "the database refuses the user",
    "28P01": "the database refuses the password",
    "3D000": "the server has no such database",
    "42501": "the user lacks a right in the database",
    "25006": "the database is read-only",
    "55P03": "the database is locked by another writer",
    "57P01": "the database is shutting down",
    "57P02": "the database is shutting down",
    "57P03": "the database is starting up",
    "57014": "the database took too long",
}
"""By SQLSTATE (PostgreSQL manual, appendix A)."""

_UNWRITABLE_SQLITE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
}
_UNWRITABLE_POSTGRESQL = {"42501", "25006", "53100"}

UNEXPECTED = "the database failed"
"""Begins what is said of a failure that is not foreseen here; the log then has the traceback."""

MISSING_TABLE = "42P01"


def reason(error: BaseException) -> str | None:
    """What to tell the caller; None where `error` is no failure of the database but a defect of ours."""
    if isinstance(error, OwnedElsewhereError):
        return str(error)
    if isinstance(error, DBAPIError) and error.orig is not None:
        return _driver_reason(error.orig) or f"{UNEXPECTED} ({type(error.orig).__name__})"
    if isinstance(error, PoolTimeoutError):
        return "the database is too slow: every connection is taken"
    if isinstance(error, SQLAlchemyError):
        return f"{UNEXPECTED} ({type(error).__name__})"
    return _driver_reason(error)


def unwritable(error: BaseException) -> bool:
    """Whether it is writing that was refused, so that reading may do."""
    original = getattr(error, "orig", None) or error
    code = getattr(original, "sqlite_errorcode", 0)
    return bool({code, code & 0xFF} & _UNWRITABLE_SQLITE) or sqlstate(error) in _UNWRITABLE_POSTGRESQL


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's five-letter code, where the error has one."""
    found = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return found if isinstance(found, str) else None


def lacks_tables(error: BaseException) -> bool:
    """Whether the tables are not there (any more), so that the migrations have to run again."""
    original = getattr(error, "orig", None)
    return sqlstate(error) == MISSING_TABLE or (
        isinstance(original, sqlite3.OperationalError) and str(original).startswith("no such table")
    )


def _driver_reason(error: BaseException) -> str | None:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        return _SQLITE_DETAILED.get(code) or _SQLITE.get(code & 0xFF) or f"{UNEXPECTED} ({name})"
    state = sqlstate(error)
    if state is not None:
        return _POSTGRESQL.get(state) or f"{UNEXPECTED} (SQLSTATE {state})"
    cause: BaseException | None = error
    while cause is not None:
        said = _network_reason(cause) or _asyncpg_reason(cause)
        if said is not None:
            return said
        cause = cause.__cause__
    return None


def _asyncpg_reason(error: BaseException) -> str | None:
    # asyncpg is an optional extra, so that its classes cannot be named here.
    if type(error).__module__.partition(".")[0] != "asyncpg":
        return None
    if isinstance(error, ValueError):  # ClientConfigurationError, which repeats no password
        return f"the database's URL is wrong: {error}"
    return f"the database cannot be reached ({type(error).__name__})"


def _network_reason(error: BaseException) -> str | None:
    if isinstance(error, socket.gaierror):
        return "the database's host name is not known"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "nothing listens at the database's address"
    if isinstance(error, ssl.SSLError):
        return f"the database's TLS certificate or protocol is refused ({error.reason or type(error).__name__})"
    if isinstance(error, ConnectionError):
        return "the database closed the connection"
    if isinstance(error, TimeoutError):
        return "the database does not answer"
    if isinstance(error, OSError):
        return f"the database cannot be reached ({error.strerror or type(error).__name__})"
    return None
