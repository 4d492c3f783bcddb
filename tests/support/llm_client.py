"""An LLM client for tests: each limit and each clock by its own name, where the service groups them."""

from dataclasses import fields
from typing import Any

import httpx

from service.llm.client import LLMClient
from service.llm.endpoint import Endpoint
from service.llm.limits import Limits, Timing

_LIMITS = {field.name for field in fields(Limits)}
_TIMING = {field.name for field in fields(Timing)}


def llm_client(
    http: httpx.AsyncClient,
    url: str,
    *,
    api_key: str = "",
    model: str | None = "m",
    timeout_seconds: float = 20.0,
    **options: Any,  # noqa: ANN401 - fields of Limits and Timing, arguments of LLMClient
) -> LLMClient:
    """A client of the server at `url`."""
    limits = {name: value for name, value in options.items() if name in _LIMITS}
    timing = {name: value for name, value in options.items() if name in _TIMING}
    more = {name: value for name, value in options.items() if name not in {*limits, *timing}}
    return LLMClient(
        http,
        Endpoint(url, api_key=api_key),
        model=model,
        limits=Limits(timeout_seconds=timeout_seconds, **limits),
        timing=Timing(**timing),
        **more,
    )
