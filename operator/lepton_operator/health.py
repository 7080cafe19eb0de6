"""/healthz, /readyz and /metrics."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], str | None]
"""None when all is well, else what is missing."""

STOP_SECONDS = 1.0


class HealthServer:
    """Serves the probes and the metrics; port 0 serves nothing."""

    def __init__(self, port: int, *, alive: Check, ready: Check) -> None:
        self._port = port
        self._alive = alive
        self._ready = ready
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on all addresses.

        Raises:
            OSError: the port is taken.
        """
        if not self._port:
            return
        app = web.Application()
        app.router.add_get("/healthz", _probe(self._alive))
        app.router.add_get("/readyz", _probe(self._ready))
        app.router.add_get("/metrics", _metrics)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, None, self._port).start()

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()


def _probe(check: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_request: web.Request) -> web.StreamResponse:
        missing = check()
        return web.Response(status=200 if missing is None else 503, text=missing or "ok")

    return answer


async def _metrics(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
