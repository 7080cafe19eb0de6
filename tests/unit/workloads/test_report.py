"""The report server: what it answers, and that nobody can hold it."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from lepton_workloads.contract.outcome import MAX_HISTORY, Epoch, Report, parse_report
from lepton_workloads.report import MAX_CONNECTIONS, ReportServer, metrics_text


@pytest.fixture
def server() -> Iterator[ReportServer]:
    with ReportServer(Report(owner_uid="u", attempt=2, epochs=5), port=0) as running:
        yield running


def get(server: ReportServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_the_report_is_what_was_updated(server: ReportServer) -> None:
    server.update(phase="Training", epoch=1, loss=0.5, eta_seconds=3.0)
    status, body = get(server, "/report")
    report = parse_report(json.loads(body))
    assert status == 200
    assert report is not None
    assert (report.owner_uid, report.attempt, report.phase, report.loss) == ("u", 2, "Training", 0.5)


def test_health_metrics_and_nothing_else(server: ReportServer) -> None:
    server.update(loss=0.25)
    assert get(server, "/healthz") == (200, "ok\n")
    status, body = get(server, "/metrics")
    assert status == 200
    assert "# TYPE lepton_workload_loss gauge\nlepton_workload_loss 0.25\n" in body
    assert "accuracy" not in body
    assert get(server, "/other")[0] == 404


def test_metrics_leave_out_what_is_unknown() -> None:
    assert "lepton_workload_eta_seconds" not in metrics_text(Report(owner_uid="u"))


def test_history_keeps_the_last_epochs(server: ReportServer) -> None:
    history = [
        Epoch(epoch=number, loss=1, accuracy=0, seconds=1, images_per_second=1) for number in range(1, 101)
    ]
    server.update(history=history)
    kept = server.current.history
    assert len(kept) == MAX_HISTORY
    assert kept[-1].epoch == 100


def test_values_that_are_no_json_are_refused(server: ReportServer) -> None:
    with pytest.raises(ValidationError):
        server.update(loss=float("nan"))
    assert get(server, "/report")[0] == 200


def test_silent_clients_don_t_take_memory_and_answers_come_back(server: ReportServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MAX_CONNECTIONS * 3)]
    refused = [client for client in silent[MAX_CONNECTIONS:] if client.recv(1) == b""]
    assert len(refused) == 2 * MAX_CONNECTIONS
    assert sum("process_request_thread" in thread.name for thread in threading.enumerate()) <= MAX_CONNECTIONS
    for client in silent:
        client.close()


def test_a_taken_port_is_an_error(server: ReportServer) -> None:
    with pytest.raises(OSError, match="in use"):
        ReportServer(Report(owner_uid="u"), port=server.port)


def test_counters_age_and_rate_are_metrics_of_their_kind(server: ReportServer) -> None:
    assert "last_step_age" not in get(server, "/metrics")[1]
    server.update(images=128, learning_rate=0.001, epoch=2)
    server.count(steps=2, checkpoints=1, feed_wait_seconds=0.25)
    server.count(steps=3, gang_wait_seconds=1.5)
    text = get(server, "/metrics")[1]
    for name, kind, value in [
        ("images_total", "counter", "128.0"),
        ("steps_total", "counter", "5.0"),
        ("checkpoints_total", "counter", "1.0"),
        ("feed_wait_seconds_total", "counter", "0.25"),
        ("gang_wait_seconds_total", "counter", "1.5"),
        ("learning_rate", "gauge", "0.001"),
        ("epoch", "gauge", "2.0"),
    ]:
        assert f"# TYPE lepton_workload_{name} {kind}\nlepton_workload_{name} {value}\n" in text
        assert f"# HELP lepton_workload_{name} " in text
    [age] = [line for line in text.splitlines() if line.startswith("lepton_workload_last_step_age_seconds ")]
    assert 0 <= float(age.split()[1]) < 3600
