"""The observer: adds up probabilities, asks the rules, hands events to the senders of their sinks."""

import time

import numpy as np

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.serving import Alarm
from lepton_workloads.contract.tasks import ServeTask
from lepton_workloads.logs import Log
from lepton_workloads.serve.alarms.cloud_events import event_of
from lepton_workloads.serve.alarms.metrics import AlarmMetrics
from lepton_workloads.serve.alarms.post import Post, poster
from lepton_workloads.serve.alarms.rules import Rule, Rules
from lepton_workloads.serve.alarms.sender import Pace, Sender
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Prediction
from lepton_workloads.serve.throttle import Throttle
from lepton_workloads.serve.traces import trace_id
from lepton_workloads.termination import WorkloadError

ROUNDING = 1e-6
"""Probabilities are float32, and sums of them miss a threshold such as 1 or 0.9 by rounding alone."""
MAX_LINES_PER_SECOND = 20
SHOWN_LABELS = 40

log = Log(__name__)


class Alarms:
    """All alarms of a server; an observer of its model."""

    def __init__(
        self, task: ServeTask, labels: list[str], metrics: Metrics, pod: str, pace: Pace | None = None
    ) -> None:
        """`labels` are the model's, in the order of its output.

        Raises:
            WorkloadError: `InvalidSpec`, terminal: a rule names a label that the model doesn't have, or a sink that
                can't be called, or has the name of another rule.
        """
        self._task = task
        self._pod = pod
        self._alarms = task.alarms
        _check_names(self._alarms)
        self._members = np.stack([_members(alarm, labels) for alarm in self._alarms], axis=1)
        self._thresholds = np.array([alarm.threshold - ROUNDING for alarm in self._alarms], np.float32)
        self._rules = Rules([_rule(alarm) for alarm in self._alarms])
        self._metrics = AlarmMetrics(metrics.registry, (alarm.name for alarm in self._alarms), self._queued)
        metrics.watch("alarm_sources", "Sources that alarms keep something of.", lambda: self._rules.sources)
        self._senders = {
            alarm.sink.url: Sender(alarm.sink.url, _poster(alarm), self._metrics, pace)
            for alarm in {alarm.sink.url: alarm for alarm in self._alarms}.values()
        }
        self._began = time.time() - time.monotonic()
        """The time of day, as it was at the start: later corrections of the clock must not shorten a cool-down."""
        self._lines = Throttle(MAX_LINES_PER_SECOND)

    def __call__(self, prediction: Prediction) -> None:
        """Looks at an answer; on the event loop, some microseconds unless a rule is fulfilled."""
        sums: Floats = prediction.probabilities @ self._members
        fulfilled = sums >= self._thresholds
        if not fulfilled.any():
            return
        now = int((self._began + time.monotonic()) * 1000)
        for row, number in np.argwhere(fulfilled).tolist():
            raised = self._rules.count(number, prediction.caller.source, now)
            if raised is None:
                continue
            alarm = self._alarms[number]
            probability = min(1.0, round(float(sums[row, number]), 6))
            event = event_of(alarm, raised, probability, now, self._task, self._pod, prediction.caller)
            self._metrics.raised(alarm.name)
            self._senders[alarm.sink.url].put(event)
            self._log(alarm, event.identity, probability, raised.count, prediction)

    def close(self, deadline: float) -> None:
        """Delivers what waits, until `deadline` (`time.monotonic()`) at the latest."""
        for sender in self._senders.values():
            sender.hurry(deadline)
        for sender in self._senders.values():
            sender.close(deadline)

    def _queued(self) -> int:
        return sum(sender.queued for sender in self._senders.values())

    def _log(
        self, alarm: Alarm, identity: str, probability: float, count: int, prediction: Prediction
    ) -> None:
        more = self._lines.take()
        if more is None:
            return
        caller = prediction.caller
        log.info(
            "Raised an alarm",
            rule=alarm.name,
            id=identity,
            source=caller.source,
            probability=probability,
            count=count,
            request_id=caller.request_id,
            trace_id=trace_id(caller.traceparent),
            lines_dropped_before=more,
        )


def _rule(alarm: Alarm) -> Rule:
    return Rule(alarm.count, alarm.window_seconds * 1000, alarm.cooldown_seconds * 1000)


def _members(alarm: Alarm, labels: list[str]) -> Floats:
    """1 for each label of the rule, 0 for the others."""
    for label in alarm.labels:
        if label not in labels:
            shown = ", ".join(labels[:SHOWN_LABELS])
            more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
            raise _invalid(
                f"alarms: rule {alarm.name} names the label {label!r}, which the model does not have; "
                f"its labels are {shown}{more}"
            )
    return np.array([label in alarm.labels for label in labels], np.float32)


def _check_names(alarms: list[Alarm]) -> None:
    names = [alarm.name for alarm in alarms]
    for name in names:
        if names.count(name) > 1:
            raise _invalid(f"alarms: two rules have the name {name}; give each a name of its own")


def _poster(alarm: Alarm) -> Post:
    try:
        return poster(alarm.sink.url)
    except ValueError as error:
        raise _invalid(
            f"alarms: rule {alarm.name}: sink.url {alarm.sink.url!r} can't be called: {error}"
        ) from None


def _invalid(message: str) -> WorkloadError:
    return WorkloadError(Failure.INVALID_SPEC, message, terminal=True)
