"""What the platform asks: is it alive, is it ready, what has it counted."""

from typing import Any

from litestar import Response

from service.api.answers import json_response, reading
from service.core import Core


def health_routes(core: Core) -> list[Any]:
    """The handlers; open to all, also where a token is set."""

    @reading("/healthz")
    async def healthz() -> Response[bytes]:
        return json_response({"status": "alive"})

    @reading("/readyz")
    async def readyz() -> Response[bytes]:
        """Never dependent on a model: a service without one still decides."""
        if core.ready:
            return json_response({"status": "ready"})
        return json_response({"status": "not ready"}, status=503)

    @reading("/metrics")
    async def metrics() -> Response[bytes]:
        # Litestar adds the charset to every text type.
        return Response(core.metrics.render(), media_type="text/plain; version=0.0.4")

    return [healthz, readyz, metrics]
