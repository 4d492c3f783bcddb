"""Where the model server is, and how one is known to it."""

from base64 import b64encode

import httpx

from service.base.secrets import LEAST_CHARS, masked_line
from service.llm.errors import LLMRequestError


class Endpoint:
    """A model server, given up to `/v1`. `secrets` is what is sent to be let in, in each form in which a server may
    send it back."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        """LLMRequestError where `url` is no http(s) URL, or where the key cannot stand in a header."""
        try:
            self._url = httpx.URL(url.strip())
        except (httpx.InvalidURL, ValueError):
            self._url = httpx.URL("")
        if self._url.scheme not in ("http", "https") or not self._url.host or not 0 < (self._url.port or 80) < 65_536:
            raise LLMRequestError("the endpoint is no usable http:// or https:// URL", problem="bad-endpoint")
        key = api_key.strip()
        if not (key.isascii() and key.isprintable()):
            raise LLMRequestError("the API key holds characters that no header can carry", problem="bad-api-key")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.secrets = (key, *_passwords(self._url)) if key else _passwords(self._url)

    def url(self, path: str) -> httpx.URL:
        """The URL of `path` below the endpoint, with or without a slash at its end; a query string is kept."""
        return self._url.copy_with(path=self._url.path.rstrip("/") + path)

    def __str__(self) -> str:
        """Without user, password and query: fit for errors and logs."""
        where = f"{self._url.scheme}://{self._url.netloc.decode('ascii')}{self._url.path.rstrip('/')}"
        return masked_line(where, 200)


def _passwords(url: httpx.URL) -> tuple[str, ...]:
    """The password of a URL, and what httpx makes of it: `Authorization: Basic …` instead of the key."""
    if not url.password:
        return ()
    both = b64encode(f"{url.username}:{url.password}".encode()).decode()
    return (both, url.password) if len(url.password) >= LEAST_CHARS else (both,)
