"""An alarm as the CloudEvents project's own SDK reads it from a real request."""

import dataclasses
import time
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event
from prometheus_client import CollectorRegistry

from lepton_workloads.contract.serving import Alarm, Sink
from lepton_workloads.serve.alarms.cloud_events import event_of
from lepton_workloads.serve.alarms.metrics import AlarmMetrics
from lepton_workloads.serve.alarms.post import poster
from lepton_workloads.serve.alarms.rules import Raised
from lepton_workloads.serve.alarms.sender import Sender
from lepton_workloads.serve.caller import Caller
from tests.unit.serving.sink import sink
from tests.unit.serving.support import TASK, until

CALLER = Caller(traceparent=f"00-{'4b' * 16}-{'00f0' * 4}-01", tracestate="a=1,b=2")


@pytest.mark.parametrize(
    "source", ["gate 3", '"50 %" Tür', "カメラ", "a" * 128, "~!#$&'()*+,-./:;=?@[]^_`{|}"]
)
def test_the_sdk_reads_what_was_raised(source: str) -> None:
    caller = dataclasses.replace(CALLER, source=source)
    with sink() as target:
        alarm = Alarm(name="bees", labels=["bee", "dög"], sink=Sink(url=target.url))
        raised = Raised(3, 1_700_000_000_000, 7)
        event = event_of(alarm, raised, 0.97, 1_700_000_000_250, TASK, "pod-1", caller)
        metrics = AlarmMetrics(CollectorRegistry(), ["bees"], lambda: 0)
        sender = Sender(target.url, poster(target.url), metrics)
        sender.put(event)
        until(lambda: target.received, "the event")
        sender.close(time.monotonic() + 10)
    [received] = target.received
    read = from_binary_event(HTTPMessage(received.headers, received.body))
    assert read.get_specversion() == "1.0"
    assert read.get_id() == event.identity
    assert read.get_source() == "/lepton/default/digits"
    assert read.get_type() == "ai.lepton.alarm.v1"
    assert read.get_subject() == source
    assert read.get_time() == datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC)
    assert read.get_datacontenttype() == "application/json"
    assert read.get_extension("traceparent") == CALLER.traceparent
    assert read.get_extension("tracestate") == CALLER.tracestate
    data = read.get_data()
    assert isinstance(data, dict)
    assert (data["rule"], data["labels"], data["source"], data["count"]) == (
        "bees",
        ["bee", "dög"],
        source,
        3,
    )
