"""Who may look, and what a visitor does with a keyboard alone; what comes from outside stays text."""

import re
from datetime import UTC, datetime
from pathlib import Path

from tests.support.browser_fixtures import OpenVisitor, Visitor
from tests.support.http_fixtures import OpenService
from tests.support.recorded_days import decided, record_days, renamed
from tests.support.service_process import ServiceProcess

TOKEN = "sesame-open-7"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
SVG = "<svg onload=alert(3)><use href='http://elsewhere.example/x.svg#a'/></svg>"
BIDI = "approved \u202edeifier\u2066\u200b"


def ask(service: ServiceProcess, **task: object) -> str:
    """The id of the decision about a task."""
    with service.client() as client:
        answer = client.post("/v1/classify", json={"instructions": "Fix it.", **task})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["decision_id"])


async def where(visitor: Visitor) -> str:
    """The path that the window shows."""
    return visitor.page.url.removeprefix(visitor.url)


async def test_a_token_is_asked_for_and_a_cookie_stands_for_it(
    open_service: OpenService, open_visitor: OpenVisitor
) -> None:
    """From any view to the form and back to that view; the cookie is for this site, no script, and not for the API."""
    service = open_service(POINTSMAN_SERVER__TOKEN=TOKEN)
    visitor = await open_visitor(service.url)
    await visitor.open("/decisions?source=forecast")
    assert (await where(visitor)).startswith("/login?next=")
    assert await visitor.broken_rules() == []
    await visitor.picture("login-light-1280")
    await visitor.page.fill("input[name=token]", "guess")
    await visitor.page.keyboard.press("Enter")
    await visitor.page.wait_for_selector("[role=alert]")
    assert "That is not the token." in await visitor.page.inner_text("main")
    visitor.wrong.clear()  # the browser's console tells of the 403
    await visitor.page.fill("input[name=token]", TOKEN)
    await visitor.page.keyboard.press("Enter")
    await visitor.page.wait_for_url(re.compile("/decisions"))
    assert await where(visitor) == "/decisions?source=forecast"
    (cookie,) = await visitor.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("secure")) == (True, "Strict", False)
    assert TOKEN not in str(cookie.get("value"))
    refused = await visitor.context.request.get(f"{service.url}/v1/status")
    assert refused.status == 401
    await visitor.page.click("text=Log out")
    await visitor.page.wait_for_url(re.compile("/login"))
    await visitor.open("/candidates")
    assert (await where(visitor)).startswith("/login")


async def test_a_keyboard_is_enough(open_service: OpenService, open_visitor: OpenVisitor) -> None:
    """Past the header to the content, to the list, through its filters to one decision, and what it was asked."""
    service = open_service()
    decision = ask(service, name="Reached by keyboard", task_id="T-1")
    visitor = await open_visitor(service.url)
    page, press = visitor.page, visitor.page.keyboard.press
    await visitor.open("/")
    await press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "To the content"
    assert (await page.locator(".skip").bounding_box() or {"x": -1})["x"] >= 0
    for _ in range(3):
        await press("Tab")
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await press("Enter")
    await page.wait_for_url(re.compile("/decisions$"))
    await page.locator("input[name=task_id]").focus()
    await page.keyboard.type("T-1")
    await press("Enter")
    await page.wait_for_url(re.compile("task_id=T-1"))
    reached = ""
    for _ in range(30):
        await press("Tab")
        reached = await page.evaluate("document.activeElement.getAttribute('href') || ''")
        if reached.startswith("/decisions/"):
            break
    assert reached == f"/decisions/{decision}"
    await press("Enter")
    await page.wait_for_url(re.compile(decision))
    await page.locator("summary").first.focus()
    await press("Enter")
    assert await page.locator("details").first.get_attribute("open") is not None
    await press("Tab")
    assert await page.evaluate("document.activeElement.tagName") == "PRE"


async def test_what_comes_from_outside_stays_text(
    open_service: OpenService, open_visitor: OpenVisitor, tmp_path: Path
) -> None:
    """A name that is a script, a label that is a picture, a reason that turns the line around or is without end."""
    url = f"sqlite:///{tmp_path / 'hostile.db'}"
    (logged,) = await decided(1, days=0.01, until=datetime.now(UTC))
    long_reason = BIDI + HOSTILE + "reason " * 15_000
    hostile = renamed(logged, name=HOSTILE, label=SVG, reason=long_reason, prompt=SVG * 2000)
    ids = await record_days(url, 3, extra=[hostile])
    service = open_service(POINTSMAN_STORE__URL=url)
    visitor = await open_visitor(service.url)
    for path in ("/", "/decisions", f"/decisions/{ids[-1]}", "/report"):
        assert await visitor.open(path) == 200
        assert await visitor.page.locator("script, img, iframe, use, main svg[onload]").count() == 0
        text = await visitor.page.inner_text("body")
        assert not set(text) & set("\u202e\u2066\u200b")
        assert await visitor.overflow() <= 0
    await visitor.open(f"/decisions/{ids[-1]}")
    text = await visitor.page.inner_text("main")
    assert HOSTILE in text
    assert SVG in text
    assert "more characters" in text
    assert len(await visitor.page.content()) < 300_000
    await visitor.open(f"/decisions?task_id={HOSTILE}")
    assert await visitor.page.locator("tbody tr").count() == 1
    assert await visitor.page.input_value("input[name=task_id]") == HOSTILE


async def test_a_record_that_is_away_is_said(open_service: OpenService, open_visitor: OpenVisitor) -> None:
    """The page says so and still shows what answers now."""
    service = open_service(POINTSMAN_STORE__URL="postgresql://nobody@127.0.0.1:1/none")
    visitor = await open_visitor(service.url)
    for path, status in (("/", 200), ("/decisions", 503), ("/report", 503), ("/candidates", 200)):
        assert await visitor.open(path) == status, path
        if path != "/candidates":
            text = await visitor.page.inner_text("main")
            assert "The record cannot be read now" in text
            assert "The forecast answers" in text
            assert "nothing listens" in text
        assert await visitor.broken_rules() == []
        await visitor.picture(f"away-{path.strip('/') or 'now'}-light-1280")
    visitor.wrong.clear()  # the browser's console tells of each 503


async def test_an_empty_record_and_a_wrong_address_are_pages_too(
    open_service: OpenService, open_visitor: OpenVisitor
) -> None:
    """Nothing recorded yet; a decision of another database; a filter that is no time."""
    service = open_service()
    visitor = await open_visitor(service.url, scheme="dark", width=400)
    for path in ("/", "/decisions", "/candidates", "/report", "/report?baseline=codex/gpt-5"):
        assert await visitor.open(path) == 200, path
        assert await visitor.broken_rules() == []
        assert await visitor.overflow() <= 0
    await visitor.open("/decisions")
    assert "No decision on record fits." in await visitor.page.inner_text("main")
    assert await visitor.open("/decisions/01a21619-5528-789f-a85d-00706b17278d") == 404
    assert "there is no decision" in await visitor.page.inner_text("main")
    assert await visitor.open("/decisions?since=yesterday") == 400
    assert "query since" in await visitor.page.inner_text("main")
    assert await visitor.broken_rules() == []
    visitor.wrong.clear()  # the browser's console tells of the 404 and the 400
