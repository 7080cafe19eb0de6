"""An alarm as a CloudEvent 1.0 in HTTP's binary mode: attributes are headers, the body is the data.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import orjson

from lepton_workloads.contract.serving import Alarm
from lepton_workloads.contract.tasks import ServeTask
from lepton_workloads.serve.alarms.rules import Raised
from lepton_workloads.serve.caller import Caller

EVENT_TYPE = "ai.lepton.alarm.v1"
_UNCHANGED = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""Characters of attributes that stand in headers as they are; all others are percent-encoded UTF-8."""


@dataclass(frozen=True, slots=True)
class Event:
    """What is sent, the same in each attempt."""

    rule: str
    identity: str
    """`ce-id`"""
    headers: dict[str, str]
    body: bytes


def event_of(
    alarm: Alarm, raised: Raised, probability: float, now: int, task: ServeTask, pod: str, caller: Caller
) -> Event:
    """The event of an alarm raised at `now` (milliseconds since 1970) by a prediction for `caller`."""
    identity = _identity(alarm, raised, task, pod, caller.source)
    data = {
        "rule": alarm.name,
        "labels": alarm.labels,
        "probability": probability,
        "threshold": alarm.threshold,
        "count": raised.count,
        "window": {"seconds": alarm.window_seconds, "start": _time(raised.began), "end": _time(now)},
        "source": caller.source,
        "namespace": task.namespace,
        "model": task.name,
        "version": task.version,
        "pod": pod,
        "requestId": caller.request_id,
    }
    attributes = {
        "specversion": "1.0",
        "id": identity,
        "source": f"/lepton/{quote(task.namespace)}/{quote(task.name)}",
        "type": EVENT_TYPE,
        "subject": caller.source,
        "time": _time(now),
        "traceparent": caller.traceparent,
        "tracestate": caller.tracestate,
    }
    headers = {f"ce-{name}": quote(value, _UNCHANGED) for name, value in attributes.items() if value}
    headers["content-type"] = "application/json"
    if caller.traceparent:  # of the request that carries the event: it belongs to the same trace
        headers["traceparent"] = caller.traceparent
    if caller.tracestate:
        headers["tracestate"] = caller.tracestate
    return Event(alarm.name, identity, headers, orjson.dumps(data))


def _identity(alarm: Alarm, raised: Raised, task: ServeTask, pod: str, source: str) -> str:
    """The same for all pods that raise the alarm in one cool-down: a receiver that drops doubles hears it once."""
    parts = [task.namespace, task.name, task.owner_uid, alarm.name, source, str(raised.period)]
    if not alarm.cooldown_seconds:
        parts.append(pod)
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:32]


def _time(milliseconds: int) -> str:
    """RFC 3339."""
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
