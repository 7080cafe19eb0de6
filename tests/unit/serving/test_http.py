"""Limits, methods, errors, overload and metrics: what all routes have in common."""

import json
import logging
import socket

import numpy as np
import pytest

from lepton_workloads.serve import http
from lepton_workloads.serve.engines import thread as engine_thread
from lepton_workloads.serve.engines.engine import NotFinite
from tests.unit.serving.support import (
    DEADLINE_SECONDS,
    LABELS,
    SHAPE,
    TASK,
    FakeEngine,
    InProcess,
    Process,
    in_thread,
    picture,
    read,
    until,
)

PREDICT = "/v1/models/digits:predict"
ONE = {"instances": [np.zeros(SHAPE).tolist()]}


def raw(port: int, *parts: bytes) -> bytes:
    """Everything the server answers to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def test_the_index_lists_every_route(served: Process) -> None:
    content = served.get("/").json()
    assert content["model"] == TASK.name
    assert content["labels"] == LABELS
    paths = {(route["method"], route["path"]) for route in content["routes"]}
    assert {("POST", "/classify"), ("GET", "/metrics"), ("POST", "/v1/models/{model}:predict")} <= paths


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/models", "/v1/models/digits:guess", "//", "/%00", "/%C3%A9", "/%ff"]
)
def test_an_unknown_path_is_404(served: Process, path: str) -> None:
    answer = served.get(path)
    assert answer.status == 404
    assert answer.error


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", PREDICT, "POST"),
        ("GET", "/classify", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/v1/models/digits", "GET, HEAD"),
        ("OPTIONS", "/", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_405_with_allow(served: Process, method: str, path: str, allow: str) -> None:
    answer = served.ask(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allow
    assert answer.error


def test_head_is_get_without_a_body(served: Process) -> None:
    answer = served.ask("HEAD", "/readyz")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("path", [PREDICT, "/classify"])
def test_a_body_without_length_is_411(served: Process, path: str) -> None:
    answer = raw(served.port, f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize("path", [PREDICT, "/classify"])
def test_a_body_that_says_it_is_too_large_is_413(served: Process, path: str) -> None:
    answer = served.ask("POST", path, b"x" * (TASK.max_request_bytes + 1))
    assert answer.status == 413
    assert str(TASK.max_request_bytes) in answer.error


def test_a_body_that_does_not_say_its_size_is_413_when_it_gets_too_large(served: Process) -> None:
    answer = served.ask("POST", "/classify", (b"x" * 10_000 for _ in range(30)))
    assert answer.status == 413


def test_a_chunked_body_is_read(served: Process) -> None:
    data = picture("PNG")
    answer = served.ask("POST", "/classify", (data[i : i + 50] for i in range(0, len(data), 50)))
    assert answer.status == 200


def test_the_connection_lives_on_after_an_error(served: Process) -> None:
    connection = served.connect()
    for _ in range(2):
        for body, status in ((b"{", 400), (json.dumps(ONE).encode(), 200), (b"x" * 300_000, 413)):
            connection.request("POST", PREDICT, body)
            assert read(connection).status == status
    connection.close()


def test_what_is_not_http_gets_a_json_error(served: Process) -> None:
    head, _, body = raw(served.port, b"NONSENSE\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert json.loads(body)["error"]


@pytest.mark.parametrize("part", [b"X: " + b"x" * 70_000, b"X: x\r\n" * 12_000])
def test_a_header_without_end_is_431(served: Process, part: bytes) -> None:
    answer = raw(served.port, b"GET / HTTP/1.1\r\nHost: x\r\n" + part)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert served.get("/healthz").status == 200


def test_a_client_that_goes_away_leaves_nothing(served: Process) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        until(lambda: served.metric("lepton_server_request_body_bytes") == 500, "half of the body")
    until(lambda: served.metric("lepton_server_request_body_bytes") == 0, "the memory to be given back")
    assert served.metric(r'lepton_server_requests_total\{code="499",route="/classify"\}') >= 1


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    server = InProcess(lambda: FakeEngine(lambda batch: np.zeros((len(batch), 4), np.float32)))
    until(server.ready, "the server")
    answer = raw(server.port, b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234")
    assert answer.startswith(b"HTTP/1.1 408 ")
    server.stop()


def test_overload_is_refused_at_once_and_nothing_that_waits_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_thread, "QUEUE_REQUESTS", 2)
    fake = FakeEngine()
    server = InProcess(lambda: fake)
    until(server.ready, "the server")
    waiting = [in_thread(lambda: server.predict(ONE))]
    assert fake.entered.wait(DEADLINE_SECONDS)
    waiting += [in_thread(lambda: server.predict(ONE)) for _ in range(2)]
    until(lambda: server.metric("lepton_server_queue_depth") == 2, "a full queue")
    assert server.metric("lepton_server_in_flight_requests") == 4  # one of them asks for the metrics
    refused = server.predict(ONE)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.error
    assert server.get("/healthz").status == 200
    fake.gate.set()
    for thread, answers in waiting:
        thread.join(DEADLINE_SECONDS)
        assert answers[0].status == 200
    server.stop()


def test_too_many_bytes_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lepton_workloads.serve.app.BODY_BUDGET", 1000)
    task = TASK.model_copy(update={"max_request_bytes": 1000})
    fake = FakeEngine()
    server = InProcess(lambda: fake, task)
    until(server.ready, "the server")
    small = picture("PNG", size=(16, 15))
    assert 500 < len(small) < 1000
    waiting, answers = in_thread(lambda: server.ask("POST", "/classify", small))
    assert fake.entered.wait(DEADLINE_SECONDS)
    refused = server.ask("POST", "/classify", small)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    fake.gate.set()
    waiting.join(DEADLINE_SECONDS)
    assert answers[0].status == 200
    assert server.metric("lepton_server_request_body_bytes") == 0
    server.stop()


def broken(_: np.ndarray) -> np.ndarray:
    raise RuntimeError("secret detail")


def not_finite(_: np.ndarray) -> np.ndarray:
    raise NotFinite("NaN")


def test_a_fault_inside_is_500_without_details(caplog: pytest.LogCaptureFixture) -> None:
    server = InProcess(lambda: FakeEngine(broken))
    until(server.ready, "the server")
    with caplog.at_level(logging.INFO):
        answer = server.predict(ONE)
    assert answer.status == 500
    assert "secret" not in answer.body.decode()
    assert "secret detail" in caplog.text
    assert server.get("/healthz").status == 200
    server.stop()


@pytest.mark.parametrize(("path", "status"), [(PREDICT, 400), ("/classify", 500)])
def test_an_answer_that_is_not_finite_never_leaves(path: str, status: int) -> None:
    server = InProcess(lambda: FakeEngine(not_finite))
    until(server.ready, "the server")
    answer = server.predict(ONE) if path == PREDICT else server.ask("POST", path, picture())
    assert answer.status == status
    assert answer.error
    server.stop()


def test_metrics_count_requests_by_route_and_code(served: Process) -> None:
    series = r'lepton_server_requests_total\{code="%s",route="%s"\}'
    route = "/v1/models/{model}:predict"
    before = [
        served.metric(series % ("200", route)),
        served.metric(series % ("400", route)),
        served.metric(series % ("404", "unmatched")),
        served.metric("lepton_server_inference_seconds_count"),
        served.metric("lepton_server_decode_seconds_count"),
    ]
    served.predict(ONE)
    served.predict(b"{")
    served.get("/nothing/at/all")
    served.ask("POST", "/classify", picture())
    after = [
        served.metric(series % ("200", route)),
        served.metric(series % ("400", route)),
        served.metric(series % ("404", "unmatched")),
        served.metric("lepton_server_inference_seconds_count"),
        served.metric("lepton_server_decode_seconds_count"),
    ]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 2, 1]
    text = served.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    body = text.body.decode()
    assert 'lepton_server_model_info{model="digits",version="0123456789ab"} 1.0' in body
    assert 'lepton_server_request_duration_seconds_bucket{le="0.001",route="/classify"}' in body
    assert "/nothing" not in body


def test_failed_requests_are_logged_as_json_and_good_ones_are_not(served: Process) -> None:
    served.get("/a/path/that/is/logged")
    served.predict(ONE)
    lines = until(lambda: served.lines("Answered request"), "the log")
    assert any(line["path"] == "/a/path/that/is/logged" and line["status"] == 404 for line in lines)
    assert all(line["status"] >= 400 for line in lines)
