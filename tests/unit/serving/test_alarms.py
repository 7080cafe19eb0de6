"""Alarms from a prediction to a real HTTP sink, and what becomes of them when the sink misbehaves."""

import dataclasses
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lepton_workloads.contract.serving import Alarm, Sink
from lepton_workloads.contract.tasks import ServeTask
from lepton_workloads.serve.alarms.cloud_events import Event, event_of
from lepton_workloads.serve.alarms.metrics import AlarmMetrics
from lepton_workloads.serve.alarms.post import origin, poster, retry_after
from lepton_workloads.serve.alarms.rules import Raised
from lepton_workloads.serve.alarms.sender import QUEUE_EVENTS, Pace, Sender
from lepton_workloads.serve.alarms.watch import Alarms
from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.termination import WorkloadError
from tests.ports import free_ports
from tests.unit.serving.secrets import certificate
from tests.unit.serving.sink import DRIP, HANG_UP, HOLD, sink
from tests.unit.serving.support import LABELS, SHAPE, TASK, FakeEngine, InProcess, until

QUICK = Pace(attempts=4, first_pause=0.01, longest_pause=0.05)
CALLER = Caller("gate 3", "r-1", f"00-{'4b' * 16}-{'00f0' * 4}-01", "vendor=1")


def alarm(url: str, **fields: Any) -> Alarm:
    return Alarm(
        **{"name": "bees", "labels": ["bee"], "cooldown_seconds": 0, "sink": Sink(url=url), **fields}
    )


def event(number: int = 0, caller: Caller = CALLER, rule: str = "bees") -> Event:
    raised = Raised(1, 1_700_000_000_000, number)
    return event_of(alarm("http://x/", name=rule), raised, 0.97, 1_700_000_000_250, TASK, "pod-1", caller)


class Delivery:
    """A sender with metrics that can be read."""

    def __init__(self, url: str, pace: Pace = QUICK) -> None:
        self.registry = CollectorRegistry()
        self.sender = Sender(
            url, poster(url), AlarmMetrics(self.registry, ["bees"], lambda: self.sender.queued), pace
        )

    def count(self, result: str) -> float:
        return self._value("lepton_server_alarm_deliveries_total", {"rule": "bees", "result": result})

    @property
    def retries(self) -> float:
        return self._value("lepton_server_alarm_delivery_retries_total", {"rule": "bees"})

    @property
    def last(self) -> float:
        return self._value("lepton_server_alarm_last_delivery_timestamp_seconds", {"rule": "bees"})

    def _value(self, name: str, labels: dict[str, str]) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, "each series is there from the start"
        return value


@pytest.fixture
def make() -> Iterator[Callable[..., Delivery]]:
    made: list[Delivery] = []

    def build(url: str, pace: Pace = QUICK) -> Delivery:
        made.append(Delivery(url, pace))
        return made[-1]

    yield build
    for delivery in made:
        delivery.sender.close(time.monotonic())


Make = Callable[..., Delivery]


def test_an_event_is_a_cloud_event_in_binary_mode(make: Make) -> None:
    caller = dataclasses.replace(CALLER, source='Tür 3, "süd" 100%')
    with sink() as target:
        delivery = make(target.url)
        delivery.sender.put(event(caller=caller))
        until(lambda: delivery.count("delivered"), "the delivery")
    [received] = target.received
    assert received.path == "/events?from=lepton"
    identity = received.headers.pop("ce-id")
    assert len(identity) == 32
    wanted = {
        "ce-specversion": "1.0",
        "ce-type": "ai.lepton.alarm.v1",
        "ce-source": "/lepton/default/digits",
        "ce-subject": "T%C3%BCr%203,%20%22s%C3%BCd%22%20100%25",
        "ce-time": "2023-11-14T22:13:20.250Z",
        "ce-traceparent": CALLER.traceparent,
        "ce-tracestate": "vendor=1",
        "content-type": "application/json",
        "traceparent": CALLER.traceparent,
        "tracestate": "vendor=1",
    }
    assert wanted.items() <= received.headers.items()
    assert received.data == {
        "rule": "bees",
        "labels": ["bee"],
        "probability": 0.97,
        "threshold": 0.9,
        "count": 1,
        "window": {"seconds": 60, "start": "2023-11-14T22:13:20.000Z", "end": "2023-11-14T22:13:20.250Z"},
        "source": 'Tür 3, "süd" 100%',
        "namespace": "default",
        "model": "digits",
        "version": "0123456789ab",
        "pod": "pod-1",
        "requestId": "r-1",
    }
    assert delivery.last > time.time() - 1000
    assert delivery.retries == 0


def test_what_nobody_said_is_left_out() -> None:
    assert {"ce-subject", "ce-traceparent", "traceparent"}.isdisjoint(event(caller=Caller()).headers)


def test_an_id_is_that_of_model_rule_source_and_period() -> None:
    def identity(caller: Caller = CALLER, task: ServeTask = TASK, pod: str = "p", **fields: Any) -> str:
        raised = Raised(1, fields.pop("began", 1), fields.pop("period", 7))
        rule = alarm("http://x/", **{"cooldown_seconds": 60, **fields})
        return event_of(rule, raised, 0.9, 2, task, pod, caller).identity

    same = identity()
    assert identity(dataclasses.replace(CALLER, request_id="other"), pod="q", began=5) == same
    assert identity(task=TASK.model_copy(update={"version": "ffffffffffff"})) == same
    others = [
        identity(dataclasses.replace(CALLER, source="gate 4")),
        identity(task=TASK.model_copy(update={"namespace": "other"})),
        identity(task=TASK.model_copy(update={"name": "other"})),
        identity(task=TASK.model_copy(update={"owner_uid": "other"})),
        identity(name="other"),
        identity(period=8),
        identity(cooldown_seconds=0, pod="p"),
        identity(cooldown_seconds=0, pod="q"),
    ]
    assert len({same, *others}) == len(others) + 1


@pytest.mark.parametrize("failure", [500, 503, 408, 429, HANG_UP, (503, {"retry-after": "0"})])
def test_an_event_is_sent_again_until_it_is_taken(make: Make, failure: Any) -> None:
    with sink(failure, failure, 200) as target:
        delivery = make(target.url)
        delivery.sender.put(event())
        until(lambda: delivery.count("delivered"), "the delivery")
    assert delivery.retries == 2
    assert len(target.received) == 3
    assert len({str(request.headers) + str(request.data) for request in target.received}) == 1


def test_attempts_end(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with sink(500) as target:
        delivery = make(target.url)
        delivery.sender.put(event())
        until(lambda: delivery.count("failed"), "the end of the attempts")
        assert len(target.received) == QUICK.attempts
        assert delivery.sender.queued == 0
    [line] = [record for record in caplog.records if record.message == "Failed to deliver an alarm"]
    fields = line.__dict__["fields"]
    assert (fields["rule"], fields["id"], fields["sink"]) == (
        "bees",
        event().identity,
        f"http://127.0.0.1:{target.port}",
    )
    assert fields["reason"] == "HTTP 500: a word from the sink, in the last of 4 attempts"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 415])
def test_a_refusal_is_final(make: Make, status: int) -> None:
    with sink(status) as target:
        delivery = make(target.url)
        delivery.sender.put(event())
        until(lambda: delivery.count("failed"), "the end")
        assert (len(target.received), delivery.retries) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirects_are_not_followed(make: Make, status: int, caplog: pytest.LogCaptureFixture) -> None:
    with sink() as other, sink((status, {"location": other.url})) as target:
        delivery = make(target.url)
        delivery.sender.put(event())
        until(lambda: delivery.count("failed"), "the end")
        assert (len(target.received), len(other.received)) == (1, 0)
    until(lambda: "Failed to deliver an alarm" in caplog.messages, "the line")
    assert "set sink.url to the final address" in caplog.records[-1].__dict__["fields"]["reason"]


def test_the_sink_says_when_it_wants_to_be_asked_again(make: Make) -> None:
    with sink((429, {"retry-after": "1"}), 200) as target:
        delivery = make(target.url)
        delivery.sender.put(event())
        until(lambda: delivery.count("delivered"), "the delivery")
        first, second = target.received
        assert second.at - first.at >= 0.99


def test_a_retry_after_is_seconds_or_a_date_and_bounded() -> None:
    assert retry_after(" 17 ") == 17
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [retry_after(text) for text in ("", "soon", "-1", "1.5", "²")] == [None] * 5
    assert Pace().pause(1, 1e9, 0.5) == 60
    assert [Pace().pause(attempt, None, 1) for attempt in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert Pace().pause(3, None, 0) == 1


@pytest.mark.parametrize("behaviour", [HOLD, DRIP])
def test_an_attempt_ends_in_time_whatever_the_sink_does(make: Make, behaviour: str) -> None:
    with sink(behaviour, 200) as target:
        delivery = make(target.url, dataclasses.replace(QUICK, attempt_seconds=0.3))
        delivery.sender.put(event())
        until(lambda: delivery.count("delivered"), "the second attempt")
        assert len(target.received) == 2


def test_a_sink_that_is_not_there_yet_is_found(make: Make) -> None:
    [port] = free_ports(1)
    delivery = make(f"http://127.0.0.1:{port}/", dataclasses.replace(QUICK, attempts=2))
    delivery.sender.put(event())
    until(lambda: delivery.count("failed"), "the end of the attempts")
    assert delivery.retries == 1


def test_a_slow_sink_drops_what_is_too_much_and_holds_up_no_other(make: Make) -> None:
    with sink(HOLD) as slow, sink() as good:
        one, other = make(slow.url), make(good.url)
        for number in range(QUEUE_EVENTS + 5):
            one.sender.put(event(number))
        assert one.count("dropped") == 5
        assert one.sender.queued == QUEUE_EVENTS
        other.sender.put(event())
        until(lambda: other.count("delivered"), "the good sink")
        assert one.count("delivered") == 0
        slow.release.set()
        until(lambda: one.count("delivered") == QUEUE_EVENTS, "the rest")
        assert slow.identities() == [event(number).identity for number in range(QUEUE_EVENTS)]


def test_a_sink_with_tls_is_trusted_by_its_certificate_only(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain", tmp_path / "key")
    with sink(context=context) as target:
        stranger = make(target.url)
        stranger.sender.put(event())
        until(lambda: "Failed to deliver an alarm" in caplog.messages, "the end of the attempts")
        assert "certificate verify failed" in caplog.records[-1].__dict__["fields"]["reason"]
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "chain"))
        delivery = make(target.url)
        delivery.sender.put(event())
        until(lambda: delivery.count("delivered"), "the delivery")
        assert len(target.received) == 1


def test_lines_about_losses_are_bounded_and_none_goes_uncounted(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with sink(HOLD) as target:
        delivery = make(target.url)
        for number in range(200):
            delivery.sender.put(event(number))
        delivery.sender.close(time.monotonic())
    fields = [record.__dict__["fields"] for record in caplog.records if "alarm" in record.message]
    assert len(fields) < 100
    assert delivery.count("failed") == 200
    told = sum("id" in one for one in fields) + sum(one.get("lines_dropped_before", 0) for one in fields)
    assert told + sum(one.get("more", 0) for one in fields) == 200


def test_the_end_cuts_pauses_short_and_delivers_what_waits(make: Make) -> None:
    with sink(503, 200) as target:
        delivery = make(target.url, Pace(first_pause=0.1, longest_retry_after=1000))
        target.script.insert(0, (503, {"retry-after": "1000"}))
        delivery.sender.put(event(1))
        delivery.sender.put(event(2))
        until(lambda: target.received, "the first attempt")
        delivery.sender.close(time.monotonic() + 20)
        assert (delivery.count("delivered"), delivery.count("failed")) == (2, 0)


def test_what_is_left_at_the_end_has_failed(make: Make) -> None:
    with sink(HOLD) as target:
        delivery = make(target.url)
        for number in range(3):
            delivery.sender.put(event(number))
        until(lambda: target.received, "the first attempt")
        delivery.sender.close(time.monotonic() + 0.2)
        assert (delivery.count("failed"), delivery.sender.queued) == (3, 0)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://hooks.example/T0/secret?key=secret", "https://hooks.example"),
        ("http://me:secret@[::1]:8080/x", "http://[::1]:8080"),
    ],
)
def test_the_log_tells_no_more_of_a_sink_than_where_it_is(url: str, told: str) -> None:
    assert origin(url) == told


# With the rules, in a server.

COLD = np.array([0.7, 0.1, 0.1, 0.1], np.float32)


def probabilities(batch: np.ndarray) -> np.ndarray:
    """The first value of a picture is the probability of `bee`, the second one that of `cat`."""
    answers = np.zeros((len(batch), len(LABELS)), np.float32)
    answers[:, 1], answers[:, 2] = batch[:, 0, 0, 0], batch[:, 0, 0, 1]
    answers[:, 0] = 1 - answers.sum(axis=1)
    return answers


def instances(*pairs: tuple[float, float]) -> dict[str, Any]:
    batch = np.zeros((len(pairs), *SHAPE))
    batch[:, 0, 0, :2] = pairs
    return {"instances": batch.tolist()}


@pytest.fixture
def start() -> Iterator[Callable[..., InProcess]]:
    servers: list[InProcess] = []

    def build(*alarms: Alarm) -> InProcess:
        task = TASK.model_copy(update={"alarms": list(alarms), "max_request_bytes": 2_000_000})
        servers.append(InProcess(lambda: FakeEngine(probabilities), task))
        until(servers[-1].ready, "the server")
        return servers[-1]

    yield build
    for server in servers:
        server.stop()


Start = Callable[..., InProcess]


def raised(server: InProcess, rule: str = "bees") -> float:
    return server.metric(f'lepton_server_alarms_raised_total{{rule="{rule}"}}')


def test_the_probabilities_of_a_rule_s_labels_are_added(start: Start) -> None:
    with sink() as target:
        server = start(alarm(target.url, labels=["bee", "cat", "bee"]))
        server.predict(instances((0.4, 0.4), (0.89, 0.0)))
        assert raised(server) == 0
        server.predict(instances((0.4, 0.5)))
        until(lambda: target.received, "the event")
        assert raised(server) == 1
    assert target.received[0].data["probability"] == 0.9


def test_a_threshold_of_1_can_be_met(start: Start) -> None:
    with sink() as target:
        server = start(alarm(target.url, labels=LABELS, threshold=1))
        for share in (0.1, 0.3, 0.7):
            server.predict(instances((share, share / 3)))
        assert raised(server) == 3


def test_windows_and_cooldowns_are_those_of_each_source(start: Start) -> None:
    with sink() as target:
        server = start(alarm(target.url, count=2, cooldown_seconds=3600))

        def see(source: str, *pairs: tuple[float, float]) -> None:
            headers = {"lepton-source": source, "Content-Type": "application/json"}
            body = str(instances(*pairs)).replace("'", '"')
            assert server.ask("POST", "/v1/models/digits:predict", body, headers).status == 200

        see("north", (1, 0))
        see("south", (1, 0))
        see("south", (0.2, 0))
        assert raised(server) == 0
        see("north", (1, 0))
        see("south", (1, 0), (1, 0), (1, 0), (1, 0))
        see("north", (1, 0), (1, 0))
        assert raised(server) == 2
        assert server.metric("lepton_server_alarm_sources") == 2
        until(lambda: len(target.received) == 2, "the events")
    assert [request.data["source"] for request in target.received] == ["north", "south"]


def test_each_alarm_without_a_cooldown_has_an_id_of_its_own(start: Start) -> None:
    with sink() as target:
        server = start(alarm(target.url))
        server.predict(instances(*[(1, 0)] * 20))
        until(lambda: len(target.received) == 20, "the events")
        assert len(set(target.identities())) == 20


def test_predictions_go_on_beside_a_sink_that_does_not_answer(start: Start) -> None:
    with sink(HOLD) as target:
        server = start(alarm(target.url))
        assert server.predict(instances(*[(1, 0)] * (QUEUE_EVENTS + 7))).status == 200
        until(lambda: target.received, "the first attempt")
        assert server.predict(instances((1, 0))).status == 200
        assert server.metric('lepton_server_alarm_deliveries_total{result="dropped",rule="bees"}') == 8
        assert server.metric("lepton_server_alarm_queue_length") == QUEUE_EVENTS
        assert server.metric("lepton_server_observer_failures_total") == 0
        target.release.set()
        until(lambda: server.metric("lepton_server_alarm_queue_length") == 0, "the rest")


@pytest.mark.parametrize(
    ("alarms", "text"),
    [
        (
            [alarm("http://x/"), alarm("http://x/", name="dogs", labels=["bee", "dog"])],
            "rule dogs names the label 'dog', which the model does not have; its labels are ant, bee, cat, dög",
        ),
        ([alarm("http://x/"), alarm("http://y/")], "two rules have the name bees"),
        ([alarm("http://x:99999/")], "rule bees: sink.url 'http://x:99999/' can't be called: Port"),
        ([alarm("ftp://x/")], "it must be http://HOST/PATH"),
        ([alarm("http://x/ä")], "must be percent-encoded"),
    ],
)
def test_rules_that_do_not_fit_the_model_are_named(alarms: list[Alarm], text: str) -> None:
    task = TASK.model_copy(update={"alarms": alarms})
    with pytest.raises(WorkloadError) as failure:
        Alarms(task, LABELS, Metrics("digits", "1"), "pod-1")
    assert (failure.value.reason, failure.value.terminal) == ("InvalidSpec", True)
    assert text in failure.value.message
