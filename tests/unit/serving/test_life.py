"""Start, readiness, drain and end of the server's process."""

import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from lepton_workloads.contract.outcome import EXIT_TERMINAL
from lepton_workloads.serve.settings import read_settings
from lepton_workloads.serve.version import read_signature
from lepton_workloads.termination import WorkloadError
from tests.unit.serving.support import (
    DEADLINE_SECONDS,
    SHAPE,
    TASK,
    FakeEngine,
    InProcess,
    Process,
    picture,
    read,
    until,
    write_artifact,
)

ONE = {"instances": [np.zeros(SHAPE).tolist()]}


def test_ready_only_once_the_model_answers() -> None:
    gate = threading.Event()

    def load() -> FakeEngine:
        assert gate.wait(DEADLINE_SECONDS)
        return FakeEngine(lambda batch: np.full((len(batch), 4), 0.25, np.float32))

    server = InProcess(load)
    assert until(lambda: server.get("/healthz"), "the socket").status == 200
    assert server.get("/readyz").status == 503
    assert server.get("/v1/models/digits").json()["model_version_status"][0]["state"] == "LOADING"
    answer = server.predict(ONE)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    gate.set()
    until(server.ready, "the model")
    assert server.predict(ONE).status == 200
    server.stop()


def test_a_drain_finishes_what_is_in_flight_and_ends_with_0(root: Path) -> None:
    server = Process(root).wait_ready()
    data = picture("PNG", size=(50, 50))
    sending = server.connect()
    sending.putrequest("POST", "/classify")
    sending.putheader("Content-Length", str(len(data)))
    sending.endheaders(data[:100])
    until(lambda: server.metric("lepton_server_request_body_bytes") == 100, "the first half")
    idle = server.connect()
    idle.request("GET", "/healthz")
    assert read(idle).status == 200

    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.lines("Began to drain"), "the drain")
    idle.request("GET", "/readyz")
    answer = read(idle)
    assert answer.status == 503
    assert answer.error == "the server is shutting down"
    assert answer.headers["connection"] == "close"

    def refused() -> bool:
        try:
            server.get("/healthz")
        except OSError:
            return True
        return False

    until(refused, "the socket to be closed")
    assert server.process.poll() is None
    sending.send(data[100:])
    assert read(sending).status == 200
    code, outcome = server.outcome()
    assert code == 0
    assert outcome == {"version": 1, "terminal": False}


def test_a_drain_ends_when_its_time_is_over(root: Path) -> None:
    task = TASK.model_copy(update={"drain_seconds": 1})
    server = Process(root, LEPTON_TASK=task.to_json()).wait_ready()
    sending = server.connect()
    sending.putrequest("POST", "/classify")
    sending.putheader("Content-Length", "1000")
    sending.endheaders(b"never more than this")
    until(lambda: server.metric("lepton_server_request_body_bytes") == 20, "the first half")
    server.process.send_signal(signal.SIGTERM)
    assert server.outcome()[0] == 0
    sending.close()


def test_requests_go_on_while_the_drain_begins(root: Path) -> None:
    """Every request of a client that heeds `Connection: close` is answered while the server lingers."""
    server = Process(root).wait_ready()
    connection = server.connect()
    statuses = []
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.lines("Began to drain"), "the drain")
    for _ in range(5):
        connection.request("POST", "/v1/models/digits:predict", json.dumps(ONE))
        answer = read(connection)
        statuses.append(answer.status)
        assert answer.headers["connection"] == "close"
        connection.close()
        connection = server.connect()
    assert statuses == [200] * 5
    assert server.outcome()[0] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEPTON_HTTP_PORT", "99999"),
        ("LEPTON_HTTP_PORT", "x"),
        ("LEPTON_THREADS", "0"),
        ("LEPTON_THREADS", "nan"),
        ("LEPTON_ACCESS_LOG", "2"),
        ("LEPTON_TASK", ""),
        ("LEPTON_TASK", "{}"),
        ("LEPTON_TASK", '{"name": "x", "version": "xyz"}'),
        ("LEPTON_TASK", '{"name": "x", "version": "000"}'),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(WorkloadError, match=name) as raised:
        read_settings({"LEPTON_TASK": TASK.to_json(), name: value})
    assert (raised.value.reason, raised.value.terminal) == ("InvalidSpec", True)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("model.tflite", b"no model at all", "model.tflite can't be used"),
        ("model.tflite", None, "model.tflite can't be used"),
        ("signature.json", None, "signature.json can't be used"),
    ],
)
def test_a_model_that_cannot_be_used_ends_the_process_with_a_reason(
    root: Path, name: str, content: bytes | None, text: str
) -> None:
    file = root / "lepton" / "model" / name
    file.unlink() if content is None else file.write_bytes(content)
    code, outcome = Process(root).outcome()
    assert code == EXIT_TERMINAL
    assert outcome["reason"] == "InvalidData"
    assert outcome["terminal"]
    assert text in outcome["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("labels", ["a", "b"]), ("inputs", [{"name": "pixels", "shape": [-1, 8, 6, 3]}]), ("inputs", [])],
)
def test_a_signature_that_contradicts_itself_is_found_out(root: Path, field: str, value: object) -> None:
    folder = root / "lepton" / "model"
    content = json.loads((folder / "signature.json").read_text())
    content[field] = value
    (folder / "signature.json").write_text(json.dumps(content))
    with pytest.raises(WorkloadError, match=r"signature.json") as raised:
        read_signature(folder)
    assert (raised.value.reason, raised.value.terminal) == ("InvalidData", True)


def test_a_signature_that_agrees_with_itself_but_not_with_the_model_is_found_out(root: Path) -> None:
    folder = root / "lepton" / "model"
    write_artifact(folder)
    text = (folder / "signature.json").read_text()
    text = text.replace("[-1,6,8,3]", "[-1,8,6,3]").replace('"height":6,"width":8', '"height":8,"width":6')
    (folder / "signature.json").write_text(text)
    code, outcome = Process(root).outcome()
    assert (code, outcome["reason"]) == (EXIT_TERMINAL, "InvalidData")
    assert "not those of signature.json" in outcome["message"]
