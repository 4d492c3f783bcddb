"""Who may look at the page where a token is set: a form takes the token, a signed cookie stands for it afterwards."""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from service.contract.errors import PointsmanError

COOKIE = "pointsman"
SESSION_SECONDS = 12 * 3600
"""A working day; then the token is asked for again."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
"""After a wrong token nobody's is looked at for so long; it doubles with each further one. One process so answers some
10,000 guesses a day, however many ask at once."""

FORGOTTEN_SECONDS = 60.0
"""After so long without a wrong token the pauses begin anew."""

MAX_WAITING = 16
"""Logins that may wait for their turn; beyond them 429."""

VIEWS = re.compile(r"/|/decisions|/decisions/[0-9a-f-]{36}|/candidates|/report")
"""What a cookie opens. Everything of the API has a path of its own, which none of these can be taken for."""

OPEN = frozenset({"/login", "/logout", "/page/style.css", "/page/icon.svg"})
"""What is open to all: it shows nothing."""


class TooManyLoginsError(PointsmanError):
    """More logins wait than may."""


class Visitors:
    """Cookies are signed with the token and name their end, so that every replica knows them and a new token ends them
    all."""

    def __init__(
        self,
        token: str,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """An empty `token` lets everybody look."""
        self._token = token.encode()
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._pause = 0.0
        self._not_before = 0.0
        self._waiting = 0
        self._turn = asyncio.Lock()

    @property
    def asks(self) -> bool:
        """Whether a token is needed at all."""
        return bool(self._token)

    def knows(self, header: bytes) -> bool:
        """Whether a `Cookie` header carries a session that has not ended."""
        for part in header.split(b";"):
            name, _, value = part.strip().partition(b"=")
            end, _, signature = value.partition(b".")
            if name == COOKIE.encode() and end.isdigit() and len(end) < 16:
                right = hmac.compare_digest(signature, self._signature(end))
                return right and int(end) > self._now()
        return False

    async def log_in(self, given: str) -> str | None:
        """A session for the right token, else None. One guess at a time, and after a wrong one a pause.

        Raises TooManyLoginsError.
        """
        if self._waiting >= MAX_WAITING:
            raise TooManyLoginsError("too many logins wait already")
        self._waiting += 1
        try:
            async with self._turn:
                left = self._not_before - self._monotonic()
                if left > 0:
                    await self._sleep(left)
                if self._monotonic() - self._not_before > FORGOTTEN_SECONDS:
                    self._pause = 0.0
                if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
                    self._pause = min(max(FIRST_PAUSE_SECONDS, 2 * self._pause), LONGEST_PAUSE_SECONDS)
                    self._not_before = self._monotonic() + self._pause
                    return None
                self._pause = 0.0
        finally:
            self._waiting -= 1
        end = str(int(self._now()) + SESSION_SECONDS).encode()
        return (end + b"." + self._signature(end)).decode()

    def _signature(self, end: bytes) -> bytes:
        return hmac.new(self._token, b"pointsman-page:" + end, hashlib.sha256).hexdigest().encode()


def cookie_header(session: str, *, secure: bool) -> bytes:
    """For `Set-Cookie`; an empty session ends it. `secure` where the visitor came by TLS."""
    age = SESSION_SECONDS if session else 0
    kept = f"{COOKIE}={session}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"
    return (kept + "; Secure" * secure).encode()


def came_by_tls(scheme: str, headers: dict[bytes, bytes]) -> bool:
    """By what the server or the proxy before it says. Who says so without TLS only locks themselves out."""
    forwarded = headers.get(b"x-forwarded-proto", b"").split(b",")[0].strip().lower()
    return scheme == "https" or forwarded == b"https" or b"proto=https" in headers.get(b"forwarded", b"").lower()


def form_of(body: bytes) -> dict[str, str]:
    """The fields of a form; what is no form has none."""
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10))
    except ValueError:
        return {}


def onward_of(path: str) -> str:
    """Where a login leads: a view of this page and nowhere else, whatever a link says."""
    view, mark, query = path.partition("?")
    fine = VIEWS.fullmatch(view) is not None and query.isprintable() and query.isascii() and len(query) < 2000
    return view + mark + query if fine else "/"
