"""Fixtures around model servers: the real llama.cpp one, and the fake endpoint."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from service.llm.transport import make_http_client
from tests.support.decision_model import make_decision_model
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.llama_server import LlamaServer, missing, model_file


@pytest.fixture(scope="session")
def llama_server() -> Iterator[LlamaServer]:
    """A real llama.cpp server with a small real model; the test is skipped where the packages are not there."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with LlamaServer() as server:
        yield server


@pytest.fixture(scope="session")
def deciding_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """A real llama.cpp server whose model is a decision model, and which answers chat as well."""
    reason = missing()
    plain = model_file()
    if reason or plain is None:
        pytest.skip(reason or "there is no model")
    file = make_decision_model(plain, tmp_path_factory.mktemp("model") / "decides.gguf")
    with LlamaServer(model=file, slots=2) as server:
        yield server
    file.unlink()


@pytest.fixture
def fake_endpoint() -> Iterator[FakeEndpoint]:
    """A fake endpoint of the test's own."""
    with FakeEndpoint() as fake:
        yield fake


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """An http client as the service makes it."""
    async with make_http_client(max_connections=64) as client:
        yield client
