"""Alarms of the server's process: from a picture to the sink, through its end, and refused rules."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lepton_workloads.contract.outcome import EXIT_TERMINAL
from lepton_workloads.contract.serving import Alarm
from lepton_workloads.contract.serving import Sink as SinkField
from tests.ports import free_ports
from tests.unit.serving.sink import HOLD, sink
from tests.unit.serving.support import LABELS, TASK, Process, picture, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextmanager
def serving(root: Path, *urls: str, **fields: Any) -> Iterator[Process]:
    """A server with a rule for each sink that every picture fulfils."""
    alarms = [
        Alarm(name=f"rule-{number}", labels=LABELS, cooldown_seconds=0, sink=SinkField(url=url))
        for number, url in enumerate(urls)
    ]
    task = TASK.model_copy(update={"namespace": "farm", "alarms": alarms, **fields})
    process = Process(root, LEPTON_TASK=task.to_json(), LEPTON_POD_NAME="pod-7", LEPTON_ACCESS_LOG="1")
    try:
        yield process.wait_ready()
    finally:
        process.kill()


def send(server: Process, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    assert server.ask("POST", "/classify", picture(), named).status == 200


def test_a_picture_reaches_the_sink_with_its_source_and_trace(root: Path) -> None:
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    with sink() as target, serving(root, target.url) as server:
        send(server, lepton_source="camera 4", x_request_id="r-17", traceparent=parent, tracestate="a=1,b=2")
        until(lambda: target.received, "the event")
        [received] = target.received
        assert received.headers["ce-source"] == "/lepton/farm/digits"
        assert received.headers["ce-subject"] == "camera%204"
        assert received.headers["ce-traceparent"] == parent
        assert received.headers["ce-tracestate"] == "a=1,b=2"
        data = received.data
        assert (data["pod"], data["requestId"], data["version"]) == ("pod-7", "r-17", TASK.version)
        [line] = until(lambda: server.lines("Raised an alarm"), "the line")
        assert line["id"] == received.headers["ce-id"]
        [answered] = [one for one in server.lines("Answered request") if one["route"] == "/classify"]
        for one in (line, answered):
            assert (one["source"], one["request_id"], one["trace_id"]) == ("camera 4", "r-17", TRACE)
        assert answered["bytes_in"] == len(picture())
        assert answered["bytes_out"] > 100


def test_a_drain_delivers_what_waits(root: Path) -> None:
    with sink(HOLD, 503, 200) as target, serving(root, target.url) as server:
        for _ in range(5):
            send(server)
        until(lambda: target.received, "the first attempt")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.lines("Began to drain"), "the drain")
        target.release.set()
        assert server.outcome()[0] == 0
        assert len(target.received) == 6
        assert len(set(target.identities())) == 5


def test_a_drain_ends_in_time_whatever_sinks_do_and_says_what_was_lost(root: Path) -> None:
    [nobody] = free_ports(1)
    with (
        sink(HOLD) as target,
        serving(root, target.url, f"http://127.0.0.1:{nobody}/", drain_seconds=2) as server,
    ):
        for _ in range(3):
            send(server)
        until(lambda: target.received, "the first attempt")
        server.process.send_signal(signal.SIGTERM)
        assert server.outcome()[0] == 0
        lost = server.lines("Failed to deliver an alarm")
        assert sorted(line["rule"] for line in lost) == ["rule-0"] * 3 + ["rule-1"] * 3
        assert {line["result"] for line in lost} == {"failed"}
        assert server.lines("Drained")


def test_a_rule_for_a_label_that_is_not_there_ends_the_server_with_the_labels_there_are(root: Path) -> None:
    alarms = [Alarm(name="dogs", labels=["bee", "dog"], sink=SinkField(url="http://127.0.0.1/"))]
    server = Process(root, LEPTON_TASK=TASK.model_copy(update={"alarms": alarms}).to_json())
    code, outcome = server.outcome()
    assert (code, outcome["reason"], outcome["terminal"]) == (EXIT_TERMINAL, "InvalidSpec", True)
    assert outcome["message"] == (
        "alarms: rule dogs names the label 'dog', which the model does not have; its labels are ant, bee, cat, dög"
    )


def test_nothing_of_alarms_is_loaded_where_there_are_none() -> None:
    code = (
        "import sys, lepton_workloads.serve.runner, lepton_workloads.serve.observers\n"
        "print([name for name in sys.modules if 'serve.alarms' in name])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert run.stdout.strip() == "[]", run.stderr
