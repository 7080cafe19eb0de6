"""The process: socket, signals, start and drain.

A drain, from SIGTERM on: `/readyz` says 503 and each answer closes its connection, while connections are
still taken for LINGER_SECONDS, since endpoints and clients learn late; then the socket is closed, requests
in flight have the rest of `drain_seconds`, and the process exits with 0.
"""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lepton_workloads.contract.artifact import Signature
from lepton_workloads.contract.outcome import Outcome
from lepton_workloads.explain import Explainer
from lepton_workloads.logs import Log
from lepton_workloads.serve.access_log import AccessLog
from lepton_workloads.serve.app import App
from lepton_workloads.serve.engine import Engine
from lepton_workloads.serve.engine_thread import EngineThread
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.settings import Settings, read_settings
from lepton_workloads.serve.version import engine_loader, read_explainer, read_signature

LINGER_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 75
"""Longer than the usual 60 s of clients and proxies, so that they, who know, close idle connections first."""
BACKLOG = 1024
MAX_HEADER_BYTES = 64 * 1024

log = Log(__name__)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, with a limit for headers, and errors in the form of all others."""

    _unparsed_bytes = 0
    """Received since the last whole header; bodies are counted where they are read."""
    _in_body = False

    def data_received(self, data: bytes) -> None:
        """Called with each piece of a connection's bytes."""
        if not self._in_body:
            self._unparsed_bytes += len(data)
        super().data_received(data)
        if not self._in_body and self._unparsed_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large", b"the header is too large")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._unparsed_bytes = 0
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called for what can't be parsed."""
        self._refuse(b"400 Bad Request", b"this is no valid HTTP request")

    def _refuse(self, status: bytes, message: bytes) -> None:
        body = b'{"error":"%s"}' % message
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nconnection: close\r\n" % status
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn with a drain; signals end it with exit code 0 instead of the signal's own."""

    def __init__(self, config: uvicorn.Config, model: Model, linger: float) -> None:
        super().__init__(config)
        self._model = model
        self._linger = linger
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn before the first connection."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn for SIGTERM and SIGINT; a second one ends the waiting."""
        if self._loop is None or self._model.draining:
            self.should_exit = self.force_exit = True
            return
        log.info("Began to drain", signal=signal.Signals(sig).name, in_flight=len(self.server_state.tasks))
        self._model.draining = True
        self._loop.call_soon_threadsafe(self._loop.call_later, self._linger, self.stop)

    def stop(self) -> None:
        """Stops accepting, finishes what is in flight, returns from `serve`."""
        self.should_exit = True


def build(settings: Settings) -> tuple[Server, Model]:
    """The server for the model on disk, not started, and the model, which has begun to load.

    Raises:
        WorkloadError: the signature can't be used.
    """
    folder, task = settings.model_dir, settings.task
    signature = read_signature(folder)
    explainer = read_explainer(folder, task.engine)
    load = engine_loader(
        folder,
        signature,
        settings.threads,
        engine=task.engine,
        precision=task.precision,
        explainer=explainer,
    )
    return compose(settings, signature, load, explainer)


def compose(
    settings: Settings, signature: Signature, load: Callable[[], Engine], explainer: Explainer | None = None
) -> tuple[Server, Model]:
    """The server for any engine; `load` runs in the engine's thread and may take its time."""
    task = settings.task
    metrics = Metrics(task.name, task.version)
    engine = EngineThread(load, metrics)
    metrics.watch("queue_depth", "Requests that wait for the engine.", lambda: engine.depth)
    model = Model(task, signature, engine, settings.threads, metrics, explainer)
    linger = min(LINGER_SECONDS, task.drain_seconds / 2)
    config = uvicorn.Config(
        App(model, metrics, AccessLog(settings.access_log)),
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(task.drain_seconds - linger)),
    )
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # the rest is told below, or from outside
    engine.start()
    return Server(config, model, linger), model


def listen(port: int) -> socket.socket:
    """A listening socket on all addresses, IPv6 and IPv4 where there are both; port 0 takes a free one."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        except OSError:
            pass  # the kernel was built with IPv6, the pod has none
    return socket.create_server(("", port), backlog=BACKLOG)


def main() -> Outcome:
    """Serves until SIGTERM; an empty outcome, since a server has no result.

    Raises:
        WorkloadError: the task or the model can't be used.
    """
    settings = read_settings()
    server, model = build(settings)
    new_loop = server.config.get_loop_factory()
    with listen(settings.port) as listener, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run(server, model, listener))
    return Outcome()


async def run(server: Server, model: Model, listener: socket.socket) -> None:
    """Serves from now on, also while the model loads, until the server is stopped.

    Raises:
        WorkloadError: the model can't be used.
    """
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await model.load()
    except BaseException:
        server.stop()
        await serving
        raise
    gc.collect()
    gc.freeze()  # what is there now stays: later collections need not look at it
    log.info("Ready", port=listener.getsockname()[1], model=model.task.name, version=model.task.version)
    await serving
    model.close()
    log.info("Drained")
