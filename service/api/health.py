"""What the platform asks, open to all also where a token is set: is it alive, is it ready, what has it counted."""

from collections.abc import Callable

from litestar import Response

from service.api.answers import json_response, reading
from service.observe.metrics import Metrics


class HealthRoutes:
    """None depends on a model: a service without one still decides."""

    def __init__(self, ready: Callable[[], bool], metrics: Metrics) -> None:
        self._ready = ready
        self._metrics = metrics
        self.handlers = [
            reading("/healthz")(self.healthz),
            reading("/readyz")(self.readyz),
            reading("/metrics")(self.metrics),
        ]

    async def healthz(self) -> Response[bytes]:
        return json_response({"status": "alive"})

    async def readyz(self) -> Response[bytes]:
        if self._ready():
            return json_response({"status": "ready"})
        return json_response({"status": "not ready"}, status=503)

    async def metrics(self) -> Response[bytes]:
        # Litestar adds the charset to every text type.
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")
