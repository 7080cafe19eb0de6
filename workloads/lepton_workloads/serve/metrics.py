"""What Prometheus is told: names of the field, base units, fixed buckets, labels only from closed lists."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.process_collector import ProcessCollector

from lepton_workloads.serve.http import Request, Response

REQUEST_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
WORK_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """The server's metrics; `registry` is its own, so that two servers can live in one test process."""

    def __init__(self, model: str, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # each doubles the number of series
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "lepton_server_requests", "Finished requests.", ["route", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "lepton_server_request_duration_seconds",
            "From the end of the request's header to the last byte of the answer.",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.inference_seconds = self._histogram("inference_seconds", "Running the network, a batch.")
        self.queue_seconds = self._histogram("queue_seconds", "Waiting for the engine, a request.")
        self.batch_size = Histogram(
            "lepton_server_batch_size",
            "Inputs that were run together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1024),
            registry=self.registry,
        )
        self.decode_seconds = self._histogram(
            "decode_seconds", "Decoding the picture files of a request, where they could be."
        )
        self.explain_render_seconds = self._histogram(
            "explain_render_seconds", "Laying a class activation map over its picture."
        )
        self.observer_failures = Counter(
            "lepton_server_observer_failures",
            "Predictions that drift watch, alarms or the log of requests failed to look at.",
            registry=self.registry,
        )
        info = Gauge(
            "lepton_server_model_info", "What is served.", ["model", "version"], registry=self.registry
        )
        info.labels(model, version).set(1)
        self._seen: dict[tuple[str, int | str], tuple[Counter, Histogram]] = {}

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Adds a gauge that is read when it is asked for."""
        Gauge(f"lepton_server_{name}", text, registry=self.registry).set_function(read)

    def observe(self, route: str, code: int | str, seconds: float) -> None:
        """Counts a finished request; `code`: the status of HTTP, or the name of gRPC's code."""
        children = self._seen.get((route, code))
        if children is None:
            children = self._requests.labels(route, code), self._seconds.labels(route)
            self._seen[route, code] = children
        children[0].inc()
        children[1].observe(seconds)

    def text(self) -> str:
        """All of it in Prometheus' text format; from any thread."""
        return generate_latest(self.registry).decode()

    async def handle(self, _: Request) -> Response:
        """`GET /metrics`."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4.encode())

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"lepton_server_{name}", text, buckets=WORK_BUCKETS, registry=self.registry)
