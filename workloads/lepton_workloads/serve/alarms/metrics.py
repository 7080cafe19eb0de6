"""What Prometheus is told of alarms; the names of rules are a closed list."""

import time
from collections.abc import Callable, Iterable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

Result = Literal["delivered", "failed", "dropped"]
RESULTS: tuple[Result, ...] = ("delivered", "failed", "dropped")


class AlarmMetrics:
    """Every series is there from the start, at zero: the first alarm is a rise, not a new line."""

    def __init__(
        self, registry: CollectorRegistry, rules: Iterable[str], queued: Callable[[], float]
    ) -> None:
        """`queued` is asked for the events that wait."""
        self._raised = Counter(
            "lepton_server_alarms_raised", "Alarms that were raised.", ["rule"], registry=registry
        )
        self._deliveries = Counter(
            "lepton_server_alarm_deliveries",
            "Events that reached their end: delivered, failed for good, dropped since too many waited.",
            ["rule", "result"],
            registry=registry,
        )
        self._retries = Counter(
            "lepton_server_alarm_delivery_retries",
            "Attempts to deliver after the first one.",
            ["rule"],
            registry=registry,
        )
        self._last = Gauge(
            "lepton_server_alarm_last_delivery_timestamp_seconds",
            "When an event was delivered last, seconds since 1970; 0 for never.",
            ["rule"],
            registry=registry,
        )
        Gauge(
            "lepton_server_alarm_queue_length", "Events that wait or are being sent.", registry=registry
        ).set_function(queued)
        for rule in rules:
            self._raised.labels(rule)
            self._retries.labels(rule)
            self._last.labels(rule)
            for result in RESULTS:
                self._deliveries.labels(rule, result)

    def raised(self, rule: str) -> None:
        """Counts an alarm."""
        self._raised.labels(rule).inc()

    def ended(self, rule: str, result: Result) -> None:
        """Counts the end of an event."""
        self._deliveries.labels(rule, result).inc()
        if result == "delivered":
            self._last.labels(rule).set(time.time())

    def tried_again(self, rule: str) -> None:
        """Counts an attempt after the first."""
        self._retries.labels(rule).inc()
