"""The HTTP server's life: start, signals, drain.

A drain, from SIGTERM on: `/readyz` says 503 and each answer closes its connection, while connections are
still taken for the linger, since endpoints and clients learn late; then the socket is closed, requests
in flight have the rest of `drain_seconds`, and the process exits with 0.
"""

import asyncio
import signal
import socket
import time
from types import FrameType
from typing import Any, Protocol, cast

import uvicorn

from lepton_workloads.logs import Log
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.observers import Watchers
from lepton_workloads.serve.protocol import HttpProtocol
from lepton_workloads.serve.security import Certificates

LAST_SECONDS = 1.0
"""For alarms and the like after the last request, also when requests took all of the drain's time."""
BACKLOG = 1024
HANDSHAKE_SECONDS = 10.0
"""Of TLS, from the connection on."""
CLOSE_SECONDS = 5.0
"""How long the end of a TLS connection may take."""

log = Log(__name__)


class Door(Protocol):
    """Another way into the server, with a port of its own."""

    port: int

    async def start(self) -> None:
        """Listens from now on."""
        ...

    async def stop(self, grace: float) -> None:
        """Takes nothing new and returns when what is in flight has ended, after `grace` seconds at most."""
        ...


class Server(uvicorn.Server):
    """uvicorn with a drain; signals end it with exit code 0 instead of the signal's own."""

    grpc: Door | None = None
    """Opened before HTTP, drained at the same time."""

    def __init__(
        self,
        config: uvicorn.Config,
        model: Model,
        metrics: Metrics,
        watchers: Watchers,
        *,
        linger: float,
        tls: Certificates | None = None,
    ) -> None:
        """`tls`: None for HTTP without it."""
        super().__init__(config)
        self.metrics = metrics
        self.watchers = watchers
        self._model = model
        self._linger = linger
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain_ends: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn before the first connection; its own knows no time-outs of TLS."""
        self._loop = loop = asyncio.get_running_loop()
        limits: dict[str, Any] = {}
        if self._tls:
            limits = {
                "ssl": self._tls.context,
                "ssl_handshake_timeout": HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": CLOSE_SECONDS,
            }
        await self.lifespan.startup()

        def connect() -> HttpProtocol:
            return HttpProtocol(self.config, self.server_state, self.lifespan.state, loop)

        self.servers = [
            await loop.create_server(connect, sock=listener, backlog=BACKLOG, **limits)
            for listener in sockets or []
        ]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast(HttpProtocol, connection).end_if_late(now)
            if self._tls:
                self._tls.take_changes()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn for SIGTERM and SIGINT; a second one ends the waiting."""
        if self._loop is None or self._model.draining:
            self.should_exit = self.force_exit = True
            if self._loop is not None and self.grpc is not None:
                self._loop.call_soon_threadsafe(self._shut, self.grpc)
            return
        log.info("Began to drain", signal=signal.Signals(sig).name, in_flight=len(self.server_state.tasks))
        self._model.draining = True
        self._drain_ends = time.monotonic() + self._model.task.drain_seconds
        self._loop.call_soon_threadsafe(self._loop.call_later, self._linger, self.stop)

    def stop(self) -> None:
        """Stops accepting, finishes what is in flight, returns from `serve`."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn to finish what is in flight."""
        if self.grpc is None:
            await super().shutdown(sockets)
            return
        grace = float(self.config.timeout_graceful_shutdown or 0)
        await asyncio.gather(super().shutdown(sockets), self.grpc.stop(grace))

    async def finish(self) -> None:
        """Has the watchers end their work, within what is left of the drain's time and at least LAST_SECONDS."""
        now = time.monotonic()
        ends = self._drain_ends or now + self._model.task.drain_seconds
        ends = now if self.force_exit else max(ends, now + LAST_SECONDS)
        results = await asyncio.gather(
            *(asyncio.to_thread(work, ends) for work in self.watchers.finishing), return_exceptions=True
        )
        for result in results:
            if isinstance(result, Exception):
                log.error("Failed to finish", error=result)

    def _shut(self, door: Door) -> None:
        self._shutting = asyncio.ensure_future(door.stop(0))
