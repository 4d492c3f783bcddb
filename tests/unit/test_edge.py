"""The outermost layer: tokens, request ids, and what is counted and logged of each request."""

import re

import pytest

from tests.support.http_fixtures import OpenApp, RunningApp

TOKEN = "sesame-öffne-dich"
BEARER = {b"Authorization": f"Bearer {TOKEN}".encode()}
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
OPEN = ["/healthz", "/readyz", "/metrics", "/schema", "/schema/openapi.json"]
CLOSED = [
    ("GET", "/v1/status"),
    ("GET", "/v1/catalog"),
    ("GET", "/v1/decisions"),
    ("GET", "/v1/decisions/x"),
    ("POST", "/v1/classify"),
    ("POST", "/v1/classify/batch"),
    ("POST", "/v1/outcomes"),
    ("POST", "/v1/outcomes/batch"),
    ("DELETE", "/v1/outcomes/x"),
    ("OPTIONS", "/v1/classify"),
    ("GET", "/v1/nothing-here"),
]


@pytest.fixture
async def guarded(open_app: OpenApp) -> RunningApp:
    """A service with a token."""
    return await open_app(server={"token": TOKEN})


@pytest.mark.parametrize("path", OPEN)
async def test_probes_and_schema_stay_open(guarded: RunningApp, path: str) -> None:
    """What the platform asks needs no token, also where one is set."""
    assert (await guarded.client.get(path)).status_code == 200


@pytest.mark.parametrize(("method", "path"), CLOSED, ids=lambda value: str(value))
async def test_v1_needs_the_token(guarded: RunningApp, method: str, path: str) -> None:
    """All of /v1/* answers 401 without the token, as a problem document that says which scheme."""
    response = await guarded.client.request(method, path)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    problem = response.json()
    assert (problem["type"], problem["status"]) == ("urn:pointsman:unauthorized", 401)
    assert problem["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    "path", ["//v1/status", "///v1//status", "/v1/status/", "/v1//status", "/%76%31/status", "//healthz/../v1/status"]
)
async def test_no_spelling_of_a_path_passes_by_the_token(guarded: RunningApp, path: str) -> None:
    """However a closed path is written, the token is asked for: the router folds slashes, and a prefix test did not."""
    response = await guarded.client.get(f"http://pointsman.test{path}")
    assert response.status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"", id="empty"),
        pytest.param(TOKEN.encode(), id="no scheme"),
        pytest.param(b"Bearer", id="no token"),
        pytest.param(b"Bearer ", id="empty token"),
        pytest.param(b"Basic " + TOKEN.encode(), id="another scheme"),
        pytest.param(b"Bearer " + TOKEN.encode()[:-1], id="cut short"),
        pytest.param(b"Bearer " + TOKEN.encode() + b"x", id="too long"),
        pytest.param(b"Bearer " + TOKEN.encode().upper(), id="other case"),
        pytest.param(b"Bearer \xff\xfe", id="not UTF-8"),
    ],
)
async def test_a_wrong_token_is_refused(guarded: RunningApp, header: bytes) -> None:
    """Only the whole token with the scheme Bearer is let in."""
    response = await guarded.client.get("/v1/status", headers={b"Authorization": header})
    assert response.status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_right_token_is_let_in(guarded: RunningApp, scheme: str) -> None:
    """The scheme's name is not case-sensitive (RFC 9110, section 11.1), and a token may hold any characters."""
    response = await guarded.client.get("/v1/status", headers={b"Authorization": f"{scheme} {TOKEN}".encode()})
    assert response.status_code == 200


async def test_without_a_token_everything_is_open(plain_app: RunningApp) -> None:
    """Where no token is set, none is asked for, and one that is sent does no harm."""
    assert (await plain_app.client.get("/v1/status")).status_code == 200
    assert (await plain_app.client.get("/v1/status", headers=BEARER)).status_code == 200


@pytest.mark.parametrize("given", ["abc", "A-b_c.9", "x" * 64])
async def test_a_fit_request_id_is_kept(plain_app: RunningApp, given: str) -> None:
    """The caller's own id comes back, so that both sides' logs can be joined."""
    response = await plain_app.client.get("/healthz", headers={"X-Request-Id": given})
    assert response.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize(
    "given",
    [b"", b"x" * 65, b"a b", b"a\tb", b"\xc3\xa4", b'"}', b"../x", b"a\x00b"],
    ids=lambda value: repr(value)[:12],
)
async def test_an_unfit_request_id_is_replaced(plain_app: RunningApp, given: bytes) -> None:
    """What does not belong in a header or a log line is not passed on; a fresh id is made."""
    response = await plain_app.client.get("/healthz", headers={b"X-Request-Id": given})
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", response.headers["x-request-id"]
    )


async def test_each_request_has_an_id_of_its_own(plain_app: RunningApp) -> None:
    """Two requests never share a made-up id."""
    ids = {(await plain_app.client.get("/healthz")).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


async def test_hostile_paths_and_methods_make_no_series(plain_app: RunningApp) -> None:
    """Labels of the request metrics come from closed sets, whatever is asked for."""
    for number in range(30):
        await plain_app.client.get(f"/nothing/{number}")
        await plain_app.client.get(f"/v1/decisions/{number}")
        await plain_app.client.request(f"BREW{number}", "/healthz")
    metrics = (await plain_app.client.get("/metrics")).text
    labels = {
        line.partition(" ")[0] for line in metrics.splitlines() if line.startswith("pointsman_http_requests_total")
    }
    assert labels == {
        'pointsman_http_requests_total{method="GET",route="unmatched",status="404"}',
        'pointsman_http_requests_total{method="GET",route="/v1/decisions/{decision_id}",status="404"}',
        'pointsman_http_requests_total{method="other",route="unmatched",status="405"}',
    }


async def test_refusals_are_counted(guarded: RunningApp) -> None:
    """A refusal at the edge counts as a problem, as every other one does."""
    await guarded.client.get("/v1/status")
    metrics = (await guarded.client.get("/metrics")).text
    assert 'pointsman_problems_total{type="urn:pointsman:unauthorized"} 1.0' in metrics
