"""The operator's metrics; names follow controller-runtime where it has one, with the prefix `lepton_`."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from lepton_operator import __version__

_FAST = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

RECONCILES = Counter("lepton_reconcile", "Reconciles by kind and result.", ["kind", "result"])
RECONCILE_ERRORS = Counter(
    "lepton_reconcile_errors", "Reconciles that ended in an error.", ["kind", "reason"]
)
RECONCILE_SECONDS = Histogram(
    "lepton_reconcile_time_seconds", "Duration of a reconcile.", ["kind"], buckets=_FAST
)

QUEUE_DEPTH = Gauge("lepton_workqueue_depth", "Keys that wait for a worker.", ["priority"])
QUEUE_ADDS = Counter("lepton_workqueue_adds", "Keys added to the queue.", ["priority"])
QUEUE_RETRIES = Counter("lepton_workqueue_retries", "Keys put back with a back-off.")
QUEUE_SECONDS = Histogram(
    "lepton_workqueue_queue_duration_seconds", "How long a key waited for a worker.", buckets=_FAST
)
WORK_SECONDS = Histogram(
    "lepton_workqueue_work_duration_seconds", "How long a worker was busy with a key.", buckets=_FAST
)
BUSY_WORKERS = Gauge("lepton_workqueue_active_workers", "Workers that are busy.")

REQUESTS = Counter(
    "lepton_rest_client_requests", "Requests to the API server.", ["method", "resource", "code"]
)
REQUEST_SECONDS = Histogram(
    "lepton_rest_client_request_duration_seconds",
    "Latency of requests to the API server, watches aside.",
    ["method"],
    buckets=_FAST,
)

WATCH_EVENTS = Counter("lepton_watch_events", "Events received from watches.", ["resource"])
WATCH_RESTARTS = Counter(
    "lepton_watch_restarts", "Watches that were started again, by cause.", ["resource", "cause"]
)
CACHED_OBJECTS = Gauge("lepton_cached_objects", "Objects in the caches.", ["resource"])

CHILD_WRITES = Counter("lepton_child_writes", "Writes of children.", ["kind", "verb"])
REFUSALS = Counter("lepton_child_refusals", "Writes of children that were refused.", ["kind", "reason"])
STATUS_WRITES = Counter("lepton_status_writes", "Writes of status.", ["kind"])
EVENTS_EMITTED = Counter("lepton_events_emitted", "Kubernetes Events written.", ["reason", "result"])
REPORT_PULLS = Counter("lepton_report_pulls", "Reports pulled from pods.", ["result"])

LEADER = Gauge("lepton_leader", "1 while this operator leads.")
LEASE_ERRORS = Counter("lepton_lease_errors", "Calls about the Lease that failed.")
FAULTS = Counter("lepton_faults", "Warnings told by Events on Lepton objects, by reason.", ["kind", "reason"])

BUILD_INFO = Gauge("lepton_build_info", "Version of the operator.", ["version"])
BUILD_INFO.labels(__version__).set(1)


def count_cached(resource: str, count: Callable[[], int]) -> None:
    """Show the size of a cache, read when the metrics are."""
    CACHED_OBJECTS.labels(resource).set_function(count)
