"""The gRPC server, in the event loop of the HTTP server: port, limits, TLS, start and end.

gRPC can't be told to send its clients away: a server that is stopped takes no call any more, and those that
clients send before they know are lost. But each connection is ended gracefully (GOAWAY, then what is in flight)
after a few seconds in any case, and the next one is made to where the Service points then. So a drain takes calls
until all connections from before it have been ended, and only then stops. Clients spread over new pods as fast.
"""

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.logs import Log
from lepton_workloads.serve.access_log import AccessLog
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.rpc import health as grpc_health
from lepton_workloads.serve.rpc import open_inference as grpc_open_inference
from lepton_workloads.serve.rpc import tensorflow_serving as grpc_tensorflow_serving
from lepton_workloads.serve.rpc.calls import Allows, Calls
from lepton_workloads.termination import WorkloadError

MAX_CALLS = 256
"""Calls that are answered or wait for it; more are RESOURCE_EXHAUSTED at once."""
STREAMS = 128
"""Calls of one connection; a client's further ones wait in the client."""
MAX_AGE_SECONDS = 5.0
"""After which a connection is ended, less for a short drain. A new one costs a client a millisecond."""
MIN_AGE_SECONDS = 1.0
AGE_SHARE = 0.4
"""Of the drain's time, for connections to be ended in; the rest is for the calls in flight."""
AGE_JITTER = 1.1
"""gRPC ends a connection up to a tenth earlier or later."""
IDLE_SECONDS = 300
HANDSHAKE_SECONDS = 20
KEEPALIVE_SECONDS = 60
CLIENT_PING_SECONDS = 10
"""Clients that ping more often, with no call, are cut off."""
METADATA_BYTES = 16 * 1024
IDENTITY_ONLY = 1
"""As in HTTP no compressed message is taken: a small one could grow to anything."""

Certificates = Callable[[], tuple[bytes, bytes]]
"""The private key and the certificate chain of now, in PEM. Called, in any thread, for each handshake."""

log = Log(__name__)


class GrpcServer:
    """Open Inference Protocol, TensorFlow Serving and health over gRPC for one model."""

    def __init__(
        self,
        model: Model,
        metrics: Metrics,
        access_log: AccessLog,
        port: int,
        *,
        allows: Allows | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """`port` 0 takes a free one. `allows`: None when no token is needed; `certificates`: None without TLS."""
        task = model.task
        self.port = port
        self._limit = task.max_request_bytes
        self._timeout = task.timeout_seconds
        self._age = min(MAX_AGE_SECONDS, max(MIN_AGE_SECONDS, AGE_SHARE * task.drain_seconds))
        self._hurry = asyncio.Event()
        self._certificates = certificates
        self._server: grpc.aio.Server | None = None
        calls = Calls(metrics, access_log, timeout=self._timeout, limit=self._limit, allows=allows)
        listed = [
            grpc_open_inference.methods(model),
            grpc_tensorflow_serving.predictions(model),
            grpc_tensorflow_serving.states(model),
        ]
        listed.append(grpc_health.methods(model, {methods[0].service for methods in listed}))
        self._handlers = [calls.service(methods) for methods in listed]

    async def start(self) -> None:
        """Listens from now on.

        Raises:
            WorkloadError: the port is taken, or the certificate can't be used.
        """
        server = grpc.aio.server(options=self._options(), maximum_concurrent_rpcs=MAX_CALLS)
        server.add_generic_rpc_handlers(self._handlers)
        address = f"[::]:{self.port}"  # gRPC listens to IPv4 as well, and alone where there is no IPv6
        try:
            if self._certificates is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, _credentials(self._certificates))
        except RuntimeError as error:
            message = f"can't listen for gRPC at {address}: {error}"
            raise WorkloadError(Failure.INTERNAL_ERROR, message, terminal=False) from error
        await server.start()
        self._server = server

    async def stop(self, grace: float) -> None:
        """Ends all within `grace` seconds: takes calls until no old connection is left, then finishes them.

        A second call with 0 ends the first one.
        """
        if self._server is None:
            return
        if grace <= 0:
            self._hurry.set()
            await self._server.stop(0)
            return
        aging = min(grace / 2, self._age * AGE_JITTER)
        try:
            await asyncio.wait_for(self._hurry.wait(), aging)
        except TimeoutError:
            await self._server.stop(grace - aging)

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.max_receive_message_length", self._limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", STREAMS),
            ("grpc.max_metadata_size", METADATA_BYTES),
            ("grpc.compression_enabled_algorithms_bitset", IDENTITY_ONLY),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
            ("grpc.server_handshake_timeout_ms", 1000 * HANDSHAKE_SECONDS),
            ("grpc.keepalive_time_ms", 1000 * KEEPALIVE_SECONDS),
            ("grpc.keepalive_timeout_ms", 1000 * HANDSHAKE_SECONDS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000 * CLIENT_PING_SECONDS),
            ("grpc.max_connection_idle_ms", 1000 * IDLE_SECONDS),
            ("grpc.max_connection_age_ms", int(1000 * self._age)),
            ("grpc.max_connection_age_grace_ms", int(1000 * (self._timeout + HANDSHAKE_SECONDS))),
        ]


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Credentials that are asked for anew with each handshake: a renewed certificate needs no restart."""
    served = certificates()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        try:
            found = certificates()
        except Exception as error:  # raised into gRPC's thread it would say nothing to anybody
            log.error("Failed to read the certificate, the one before stays", error=error)
            return None
        if found == served:
            return None
        served = found
        return grpc.ssl_server_certificate_configuration([found])

    first = grpc.ssl_server_certificate_configuration([served])
    return grpc.dynamic_ssl_server_credentials(first, renewed)  # type: ignore[arg-type]  # None: the same
