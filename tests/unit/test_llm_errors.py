"""What a person may see of an error."""

import pytest

from service.contract.errors import PointsmanError
from service.llm.endpoint import Endpoint
from service.llm.errors import (
    LLMConnectionError,
    LLMError,
    LLMReplyError,
    LLMRequestError,
    LLMStatusError,
    LLMTimeoutError,
)


def test_every_error_names_its_problem_and_belongs_to_the_tree() -> None:
    """Each error is a PointsmanError with a kebab-case problem; only a status has a retry-after."""
    errors: list[LLMError] = [
        LLMRequestError("m"),
        LLMConnectionError("m"),
        LLMStatusError("m", status=429, body="b", retry_after=2.0),
        LLMReplyError("m", problem="not-json"),
        LLMTimeoutError("m"),
    ]
    assert all(isinstance(error, PointsmanError) for error in errors)
    assert [error.problem for error in errors] == ["bad-call", "connection-failed", "http-429", "not-json", "timeout"]
    assert [error.retry_after for error in errors] == [None, None, 2.0, None, None]


@pytest.mark.parametrize(
    ("given_url", "called"),
    [
        pytest.param("http://host:1/v1", "http://host:1/v1/models", id="plain"),
        pytest.param("http://host:1/v1/", "http://host:1/v1/models", id="slash"),
        pytest.param(" http://host:1/v1// ", "http://host:1/v1/models", id="blanks"),
        pytest.param("https://host/api/v1?version=2", "https://host/api/v1/models?version=2", id="query"),
        pytest.param("http://host", "http://host/models", id="no-path"),
    ],
)
def test_paths_go_below_the_endpoint(given_url: str, called: str) -> None:
    """An endpoint works with and without a slash at its end, and keeps its query."""
    assert str(Endpoint(given_url).url("/models")) == called


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8080/v1",
        "localhost",
        "/v1",
        "ftp://host/v1",
        "http://",
        "http://[bad]",
        "http://h:99999",
        "http://h:-1",
    ],
)
def test_an_endpoint_that_is_no_http_url_is_refused(url: str) -> None:
    """The constructor says so, before any request."""
    with pytest.raises(LLMRequestError) as caught:
        Endpoint(url)
    assert caught.value.problem == "bad-endpoint"


def test_an_endpoint_is_shown_without_password_and_query() -> None:
    """Errors and logs name the endpoint without what may be secret in it."""
    assert str(Endpoint("http://me:pw@host:1/v1?key=k", api_key="sk")) == "http://host:1/v1"


@pytest.mark.parametrize(
    ("key", "header"),
    [
        pytest.param("", {}, id="none"),
        pytest.param("  ", {}, id="blank"),
        pytest.param("sk-1\n", {"Authorization": "Bearer sk-1"}, id="newline-of-a-file"),
    ],
)
def test_the_bearer_header_is_there_only_with_a_key(key: str, header: dict[str, str]) -> None:
    """No key, no header; a key from a file may end in a newline."""
    assert Endpoint("http://host/v1", api_key=key).headers == header


@pytest.mark.parametrize("key", ["sk-\u00e9", "a\r\nb", "a\x00b"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    """The error does not repeat the key."""
    with pytest.raises(LLMRequestError) as caught:
        Endpoint("http://host/v1", api_key=key)
    assert caught.value.problem == "bad-api-key"
    assert key not in str(caught.value)
