"""The process: what the task wants is put together, listens, and serves until it is told to stop (`server`)."""

import asyncio
import gc
import logging
import os
import resource
import socket
from collections.abc import Callable

import uvicorn

from lepton_workloads.contract.artifact import Reference, Signature
from lepton_workloads.contract.outcome import Failure, Outcome, Report
from lepton_workloads.contract.tasks import TLS_DIR, TOKENS_DIR
from lepton_workloads.explain import Explainer
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.report import REPORT_PORT_ENV, ReportServer
from lepton_workloads.serve.access_log import AccessLog
from lepton_workloads.serve.app import App
from lepton_workloads.serve.engines.engine import Engine
from lepton_workloads.serve.engines.thread import EngineThread
from lepton_workloads.serve.figures import read_figures
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.observers import watch_predictions
from lepton_workloads.serve.protocol import KEEP_ALIVE_SECONDS, MAX_CONNECTIONS, HttpProtocol
from lepton_workloads.serve.security import Certificates, Tokens
from lepton_workloads.serve.server import BACKLOG, Server
from lepton_workloads.serve.settings import Settings, read_settings
from lepton_workloads.serve.version import (
    engine_loader,
    read_explainer,
    read_reference,
    read_signature,
)
from lepton_workloads.termination import WorkloadError

LINGER_SECONDS = 1.0
GARBAGE = 20_000
"""Objects after which Python looks for cycles among them: a JSON request of a small picture makes a thousand lists, and
with Python's own 700 each of them would be looked through while it is read."""
SPARE_FILES = 128
"""What the process opens beside connections."""

log = Log(__name__)


def build(settings: Settings) -> tuple[Server, Model]:
    """The server for the model on disk, not started, and the model, which has begun to load.

    Raises:
        WorkloadError: the signature can't be used, or there is no reference for drift.
    """
    folder, task = settings.model_dir, settings.task
    signature = read_signature(folder)
    explainer = read_explainer(folder, task.engine)
    reference = read_reference(folder, signature) if task.drift else None
    load = engine_loader(
        folder,
        signature,
        settings.threads,
        engine=task.engine,
        precision=task.precision,
        explainer=explainer,
    )
    return compose(settings, signature, load, explainer, reference)


def compose(
    settings: Settings,
    signature: Signature,
    load: Callable[[], Engine],
    explainer: Explainer | None = None,
    reference: Reference | None = None,
) -> tuple[Server, Model]:
    """The server for any engine; `load` runs in the engine's thread and may take its time."""
    task = settings.task
    tokens = Tokens(place(TOKENS_DIR)) if task.tokens else None
    tls = Certificates(place(TLS_DIR)) if task.tls else None
    metrics = Metrics(task.name, task.version)
    engine = EngineThread(load, metrics)
    metrics.watch("queue_depth", "Requests that wait for the engine.", lambda: engine.depth)
    model = Model(task, signature, engine, settings.threads, metrics, explainer)
    watchers = watch_predictions(model, metrics, reference)
    metrics.watch("ready", "1 while /readyz says so.", lambda: model.ready)
    linger = min(LINGER_SECONDS, task.drain_seconds / 2)
    access_log = AccessLog(settings.access_log)
    config = uvicorn.Config(
        App(model, metrics, access_log, tokens, read_figures(settings.model_dir, len(model.labels))),
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
    server = Server(config, model, metrics, watchers, linger=linger, tls=tls)
    if task.grpc:
        # Large, so imported only where it is wanted. By itself it writes a line past our log for each bad handshake.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from lepton_workloads.serve.rpc.server import GrpcServer

        server.grpc = GrpcServer(
            model,
            metrics,
            access_log,
            settings.grpc_port,
            allows=tokens.allows if tokens else None,
            certificates=tls.certificates if tls else None,
        )
    return server, model


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
        WorkloadError: the task or the model can't be used, or the port for the report is taken.
    """
    settings = read_settings()
    HttpProtocol.most_connections = _possible_connections()
    server, model = build(settings)
    new_loop = server.config.get_loop_factory()
    with (
        _report_server(settings, server.metrics) as reports,
        listen(settings.port) as listener,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        runner.run(run(server, model, listener, reports))
    return Outcome()


def _possible_connections() -> int:
    """MAX_CONNECTIONS, or what the limit of open files, raised as far as it may be, leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(1, soft - SPARE_FILES)
    return MAX_CONNECTIONS


def _report_server(settings: Settings, metrics: Metrics) -> ReportServer:
    report = Report(owner_uid=settings.task.owner_uid, phase="Loading")
    try:
        return ReportServer(report, settings.report_port, metrics.text)
    except OSError as error:
        message = (
            f"port {settings.report_port}, where the report and the metrics are, can't be opened: {error.strerror}. "
            f"Let other containers of the pod use another port, or set {REPORT_PORT_ENV}"
        )
        raise WorkloadError(Failure.INVALID_SPEC, message, terminal=False) from error


async def run(
    server: Server, model: Model, listener: socket.socket, reports: ReportServer | None = None
) -> None:
    """Serves from now on, also while the model loads, until the server is stopped.

    Args:
        reports: is told where the server stands.

    Raises:
        WorkloadError: the model can't be used.
    """
    ports = {"port": listener.getsockname()[1]}
    if server.grpc is not None:
        await server.grpc.start()
        ports["grpc_port"] = server.grpc.port
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await model.load()
    except BaseException:
        server.stop()
        if server.grpc is not None:
            await server.grpc.stop(0)
        await serving
        raise
    gc.collect()
    gc.freeze()  # what is there now stays: later collections need not look at it
    gc.set_threshold(GARBAGE, 20, 20)
    if reports:
        reports.update(phase="Serving")
        ports["report_port"] = reports.port
    server.watchers.start(lambda figures: reports.update(drift=figures) if reports else None)
    log.info("Ready", **ports, model=model.task.name, version=model.task.version)
    await serving
    await server.finish()
    model.close()
    log.info("Drained")
