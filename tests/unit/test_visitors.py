"""Who may look at the page where a token is set, and how slowly tokens are guessed."""

import asyncio

import pytest

from service.api.page.visitors import (
    LONGEST_PAUSE_SECONDS,
    MAX_WAITING,
    SESSION_SECONDS,
    TooManyLoginsError,
    Visitors,
    came_by_tls,
    cookie_header,
    form_of,
    onward_of,
)
from tests.support.builders import HandClock
from tests.support.http_fixtures import OpenApp

TOKEN = "sesame-open-7"


class Guard:
    """Visitors whose clocks are set by hand; a pause moves them on and is noted."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.pauses: list[float] = []
        self.visitors = Visitors(TOKEN, now=self.clock, monotonic=self.clock, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.move(seconds)
        await asyncio.sleep(0)


async def test_a_session_ends_by_itself_and_with_the_token() -> None:
    """After half a day, and at once where another token is set; what is not signed is nobody's."""
    guard = Guard()
    session = await guard.visitors.log_in(TOKEN)
    assert session is not None
    header = f"other=1; pointsman={session}".encode()
    assert guard.visitors.knows(header)
    assert not Visitors("another", now=guard.clock).knows(header)
    end, _, signature = session.partition(".")
    assert not guard.visitors.knows(f"pointsman={int(end) + 9999}.{signature}".encode())
    for forged in (b"", b"pointsman=", b"pointsman=.", b"pointsman=99999999999.", b"pointsman=" + b"9" * 9000):
        assert not guard.visitors.knows(forged)
    guard.clock.move(SESSION_SECONDS + 1)
    assert not guard.visitors.knows(header)


async def test_each_wrong_token_slows_the_next_login() -> None:
    """For all, since a guesser has many addresses: half a second, doubled up to eight; a right one ends it."""
    guard = Guard()
    for _ in range(7):
        assert await guard.visitors.log_in("guess") is None
    assert guard.pauses == [0.5, 1.0, 2.0, 4.0, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    assert await guard.visitors.log_in(TOKEN) is not None
    assert len(guard.pauses) == 7
    assert await guard.visitors.log_in(TOKEN) is not None
    assert len(guard.pauses) == 7


async def test_guesses_at_once_wait_for_one_another() -> None:
    """A thousand connections guess no faster than one, and beyond a few none is heard."""
    guard = Guard()
    answers = await asyncio.gather(
        *(guard.visitors.log_in("guess") for _ in range(MAX_WAITING + 4)), return_exceptions=True
    )
    assert answers.count(None) == MAX_WAITING + 1  # the first one did not wait
    assert sum(isinstance(answer, TooManyLoginsError) for answer in answers) == 3
    assert sum(guard.pauses) > 8 * (MAX_WAITING - 5)


def test_a_cookie_is_for_this_site_alone() -> None:
    """No script reads it, no other site sends it, and behind TLS it is never sent without."""
    assert "HttpOnly; SameSite=Strict" in cookie_header("1.x", secure=False).decode()
    assert "Secure" not in cookie_header("1.x", secure=False).decode()
    assert cookie_header("1.x", secure=True).endswith(b"; Secure")
    assert b"Max-Age=0" in cookie_header("", secure=False)
    assert came_by_tls("https", {})
    assert came_by_tls("http", {b"x-forwarded-proto": b"https, http"})
    assert came_by_tls("http", {b"forwarded": b"for=1.2.3.4;proto=HTTPS"})
    assert not came_by_tls("http", {b"x-forwarded-proto": b"http"})


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        pytest.param("/decisions?kind=issue&before=x", "/decisions?kind=issue&before=x", id="view"),
        pytest.param("//elsewhere.example/", "/", id="another-host"),
        pytest.param("https://elsewhere.example/", "/", id="absolute"),
        pytest.param("/v1/status", "/", id="api"),
        pytest.param("/report?a=\r\nSet-Cookie:x", "/", id="another-header"),
        pytest.param("/decisions/../v1/status", "/", id="around-the-corner"),
    ],
)
def test_a_login_leads_to_a_view_and_nowhere_else(asked: str, led: str) -> None:
    """Whatever a link says."""
    assert onward_of(asked) == led


def test_what_is_no_form_has_no_fields() -> None:
    """Bytes of any kind, and more fields than any form has."""
    assert form_of(b"token=a%20b&next=%2F") == {"token": "a b", "next": "/"}
    assert form_of(b"&".join(b"a=1" for _ in range(99))) == {}
    assert form_of(b"\xff\x00") == {"\ufffd\x00": ""}


async def test_a_cookie_opens_the_page_and_never_the_api(open_app: OpenApp) -> None:
    """GET of a view only; however the path is written."""
    app = await open_app(server={"token": TOKEN})
    answer = await app.client.get("/decisions?kind=x")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/decisions%3Fkind%3Dx")
    wrong = await app.client.post("/login", data={"token": "guess", "next": "/report"})
    assert wrong.status_code == 403
    right = await app.client.post("/login", data={"token": TOKEN, "next": "/report"})
    assert (right.status_code, right.headers["location"]) == (303, "/report")
    assert "httponly" in right.headers["set-cookie"].lower()
    for path in ("/", "/decisions", "/candidates", "/report"):
        assert (await app.client.get(path)).status_code == 200, path
    for path in ("/v1/status", "//v1/status", "/v1/decisions", "/decisions/../v1/status", "/report/", "/v1/report"):
        assert (await app.client.get(path)).status_code in {401, 404}, path
        assert (await app.client.get(path)).json()["status"] in {401, 404}
    assert (await app.client.get("/v1/status")).status_code == 401
    assert (await app.client.post("/v1/classify", json={"instructions": "x"})).status_code == 401
    assert (await app.client.post("/decisions")).status_code != 200
    out = await app.client.post("/logout")
    assert "max-age=0" in out.headers["set-cookie"].lower()
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert (await app.client.get("/report", headers=bearer)).status_code == 200


async def test_every_view_forbids_what_it_does_not_need(open_app: OpenApp) -> None:
    """The policy of the contract, letter by letter; nothing is kept by a cache in between."""
    app = await open_app()
    for path in ("/", "/decisions", "/candidates", "/report", "/decisions/none", "/page/style.css"):
        headers = (await app.client.get(path)).headers
        assert headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        ), path
        assert headers["x-content-type-options"] == "nosniff"
    assert (await app.client.get("/")).headers["cache-control"] == "no-store"


async def test_the_page_can_be_turned_off(open_app: OpenApp) -> None:
    """Then there is nothing at its paths, and with a token nothing that tells so."""
    app = await open_app(server={"page": False})
    for path in ("/", "/decisions", "/candidates", "/report", "/login", "/page/style.css"):
        assert (await app.client.get(path)).status_code == 404, path
    closed = await open_app(server={"page": False, "token": TOKEN})
    assert (await closed.client.get("/")).status_code == 401
    assert (await closed.client.get("/login")).status_code == 401


async def test_without_a_token_nobody_is_asked_for_one(open_app: OpenApp) -> None:
    """The form leads on."""
    app = await open_app()
    assert (await app.client.get("/login")).headers["location"] == "/"
    assert (await app.client.post("/login", data={"token": "x"})).headers["location"] == "/"


async def test_a_login_takes_no_large_body(open_app: OpenApp) -> None:
    """A token is short."""
    app = await open_app(server={"token": TOKEN})
    answer = await app.client.post("/login", content=b"token=" + b"x" * 10_000)
    assert answer.status_code == 413
