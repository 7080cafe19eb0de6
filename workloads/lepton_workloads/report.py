"""`GET /report`, `/healthz` and `/metrics`: where a preparing, training or serving container stands.

It runs in threads beside the work, so it answers while native code runs. Requests, threads and time are
bounded: anybody in the cluster may ask. LEPTON_REPORT_PORT replaces the port for tests (0: any free one).
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qsl

from lepton_workloads.contract.outcome import MAX_HISTORY, Report
from lepton_workloads.contract.tasks import REPORT_PORT

REPORT_PORT_ENV = "LEPTON_REPORT_PORT"
MAX_CONNECTIONS = 8
REQUEST_SECONDS = 5.0
MAX_QUERY = 512
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_WORKERS = 1024
"""More than a gang may have; what is remembered of readers is bounded by it."""
_GAUGES = {
    "done": ("lepton_workload_done", "Files prepared, or steps of the running epoch."),
    "total": ("lepton_workload_total", "Files to prepare, or steps of an epoch."),
    "epoch": ("lepton_workload_epoch", "Finished epochs."),
    "epochs": ("lepton_workload_epochs", "Epochs to train."),
    "loss": ("lepton_workload_loss", "Mean loss of the running or last epoch."),
    "accuracy": ("lepton_workload_accuracy_ratio", "Accuracy of the running or last epoch, 0 to 1."),
    "images_per_second": ("lepton_workload_images_per_second", "Pictures trained in a second."),
    "learning_rate": ("lepton_workload_learning_rate", "Learning rate of the optimizer."),
    "eta_seconds": ("lepton_workload_eta_seconds", "Expected time to the end of the training."),
}
_COUNTERS = {
    "images": ("lepton_workload_images_total", "Pictures trained by the whole gang since this pod's start."),
    "steps": ("lepton_workload_steps_total", "Training steps since this pod's start."),
    "checkpoints": ("lepton_workload_checkpoints_total", "Checkpoints written by this pod."),
    "gang_wait_seconds": (
        "lepton_workload_gang_wait_seconds_total",
        "Time spent waiting for the other workers at the start.",
    ),
    "feed_wait_seconds": (
        "lepton_workload_feed_wait_seconds_total",
        "Time that training steps waited for their pictures.",
    ),
}
_AGE = ("lepton_workload_last_step_age_seconds", "Time since the last training steps were counted.")


class _Server(ThreadingMixIn, HTTPServer):
    """A thread a connection, at most MAX_CONNECTIONS; more are closed at once."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    report: "ReportServer"

    def __init__(self, port: int) -> None:
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        dual = socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if dual else socket.AF_INET
        super().__init__(("", port), _Handler, bind_and_activate=False)
        if dual:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not server_bind of HTTPServer: it looks up the host's name, which may take seconds in a pod.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("", port))
        self.server_port = self.socket.getsockname()[1]
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is not worth a line in the log."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        report = self.server.report.current
        path, _, query = self.path.partition("?")
        if path == "/report":
            self._answer(200, "application/json", report.to_json())
            self.server.report.was_read(report, query)
        elif path == "/healthz":
            self._answer(200, "text/plain; charset=utf-8", "ok\n")
        elif path == "/metrics":
            self._answer(200, METRICS_TYPE, self.server.report.metrics())
        else:
            self._answer(404, "text/plain; charset=utf-8", "ask for /report, /healthz or /metrics\n")

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Pulls every few seconds are no news."""


class ReportServer:
    """Holds the container's `Report` and serves it; use as a context manager.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self, report: Report, port: int | None = None, metrics: Callable[[], str] | None = None
    ) -> None:
        """`metrics`: makes the text of `/metrics`, in any thread, where it is not that of the report's numbers."""
        if port is None:
            port = int(os.environ.get(REPORT_PORT_ENV, REPORT_PORT))
        self._lock = threading.Lock()
        self._report = report
        self._counters: dict[str, float] = {}
        self._readers: dict[int, Report] = {}
        self._last_step = 0.0
        self._metrics = metrics
        self._server = _Server(port)
        self._server.report = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="report", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._server.server_port)

    @property
    def current(self) -> Report:
        """The report as it stands; frozen, safe to read from any thread."""
        with self._lock:
            return self._report

    def update(self, **fields: Any) -> None:
        """Replace fields of the report; history keeps its last MAX_HISTORY epochs.

        Raises:
            pydantic.ValidationError: a value does not fit the contract (a NaN for example).
        """
        if "history" in fields:
            fields["history"] = list(fields["history"])[-MAX_HISTORY:]
        with self._lock:
            values = {name: getattr(self._report, name) for name in Report.model_fields}
            self._report = Report.model_validate({**values, **fields})

    def count(self, **amounts: float) -> None:
        """Add to counters that only the metrics show."""
        with self._lock:
            for name, amount in amounts.items():
                self._counters[name] = self._counters.get(name, 0.0) + amount
            if amounts.get("steps"):
                self._last_step = time.monotonic()

    def metrics(self) -> str:
        """The text of `/metrics`, in Prometheus' text format 0.0.4."""
        return self._metrics() if self._metrics else metrics_text(self.current, self.counters)

    def was_read(self, report: Report, query: str) -> None:
        """Remember who has read a report: `uid=...&attempt=...&worker=...` of a worker of the same gang."""
        asks = dict(parse_qsl(query[:MAX_QUERY]))
        worker = asks.get("worker", "")
        same = (asks.get("uid"), asks.get("attempt")) == (report.owner_uid, str(report.attempt))
        if same and worker.isascii() and worker.isdigit() and int(worker) < MAX_WORKERS:
            with self._lock:
                self._readers[int(worker)] = report

    def read_by(self, worker: int) -> Report | None:
        """The last report that a worker of the gang has read."""
        with self._lock:
            return self._readers.get(worker)

    @property
    def counters(self) -> dict[str, float]:
        """What was counted, and the `last_step_age` once there was a step."""
        with self._lock:
            age = {"last_step_age": time.monotonic() - self._last_step} if self._last_step else {}
            return self._counters | age

    def __enter__(self) -> "ReportServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def metrics_text(report: Report, counters: Mapping[str, float] | None = None) -> str:
    """The report's numbers and the counters in Prometheus' text format; no labels, so nothing to escape."""
    values = {"images": float(report.images) or None, **(counters or {})}
    metrics = [(*named, "gauge", getattr(report, field)) for field, named in _GAUGES.items()]
    metrics += [(*named, "counter", values.get(field)) for field, named in _COUNTERS.items()]
    metrics.append((*_AGE, "gauge", values.get("last_step_age")))
    lines: list[str] = []
    for name, text, kind, value in metrics:
        if value is not None:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {float(value)!r}"]
    return "\n".join(lines) + "\n"
