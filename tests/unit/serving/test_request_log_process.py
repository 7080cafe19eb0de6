"""The log of requests of the server's process: off unless asked for, whole after a kill, finished by a drain."""

import http.client
import io
import itertools
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lepton_workloads.contract.serving import RequestLog
from tests.unit.serving.request_logs import files, lines
from tests.unit.serving.support import SHAPE, TASK, Process, picture, png_input, until

RESULT = 'lepton_server_request_log_records_total{result="%s"}'


@contextmanager
def serving(root: Path, **fields: Any) -> Iterator[Process]:
    """A server that logs requests, as the pod `pod-1`."""
    if not (root / "lepton" / "requests").exists():
        (root / "lepton" / "requests").mkdir()
    spec = RequestLog(claim_name="kept", **fields)
    task = TASK.model_copy(update={"request_log": spec})
    process = Process(root, LEPTON_TASK=task.to_json(), LEPTON_POD_NAME="pod-1")
    try:
        yield process.wait_ready()
    finally:
        process.kill()


def parts(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / "lepton" / "requests").rglob("answers.jsonl"))


def test_pictures_and_numbers_are_kept_with_their_answers(root: Path) -> None:
    with serving(root) as server:
        answer = server.ask(
            "POST", "/classify", picture("JPEG"), {"lepton-source": "gate 3", "x-request-id": "r-1"}
        )
        best = answer.json()["predictions"][0]
        numbers = np.zeros(SHAPE)
        assert server.predict({"instances": [png_input(1).tolist(), numbers.tolist()]}).status == 200
        until(lambda: server.metric(RESULT % "written") == 3, "the records")
        assert server.metric("lepton_server_observer_failures_total") == 0
        [part] = parts(root)
        first, second, third = lines(part)
        assert (first["label"], first["probability"]) == (
            best["label"],
            pytest.approx(best["probability"], abs=1e-6),
        )
        assert (first["source"], first["requestId"], first["sent"]) == ("gate 3", "r-1", "picture")
        assert (part / first["file"]).read_bytes() == picture("JPEG")
        kept = Image.open(part / second["file"])
        np.testing.assert_array_equal(kept, Image.open(io.BytesIO(picture("PNG", 1))))
        assert third["file"].startswith("numbers/")
        np.testing.assert_array_equal(np.load(part / third["file"]), numbers)
        assert server.metric("lepton_server_request_log_stored_bytes") > 0


def test_nothing_is_kept_unless_it_is_asked_for(root: Path) -> None:
    folder = root / "lepton" / "requests"
    folder.mkdir()
    server = Process(root).wait_ready()
    try:
        assert server.ask("POST", "/classify", picture()).status == 200
        assert "request_log" not in server.get("/metrics").body.decode()
    finally:
        server.kill()
    assert list(folder.iterdir()) == []


def test_a_sample_is_a_share_of_the_requests(root: Path) -> None:
    with serving(root, sample=0.5) as server:
        connection = server.connect()
        for _ in range(200):
            connection.request("POST", "/classify", picture())
            assert connection.getresponse().read()
        server.process.send_signal(signal.SIGTERM)
        assert server.outcome()[0] == 0
    assert 50 < sum(len(lines(part)) for part in parts(root)) < 150


def test_a_drain_writes_what_waits(root: Path) -> None:
    with serving(root) as server:
        for _ in range(20):
            assert server.ask("POST", "/classify", picture()).status == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.outcome()[0] == 0
    assert sum(len(lines(part)) for part in parts(root)) == 20


def test_predictions_go_on_where_the_folder_is_not_there(root: Path) -> None:
    (root / "lepton" / "requests").write_text("no folder")
    with serving(root) as server:
        for _ in range(3):
            assert server.ask("POST", "/classify", picture()).status == 200
        until(lambda: server.metric(RESULT % "failed") == 3, "the failures")
        assert len(server.lines("Failed to log a request")) == 1


def test_a_kill_leaves_nothing_half_and_the_next_container_goes_on(root: Path) -> None:
    data = [picture("PNG", seed, (60, 50)) for seed in range(3)]
    for _ in range(2):
        with serving(root) as server:
            before = len(files(root / "lepton" / "requests"))
            stop = threading.Event()

            def flood(server: Process = server, stop: threading.Event = stop) -> None:
                connection = server.connect()
                for number in itertools.count():
                    try:
                        connection.request("POST", "/classify", data[number % 3])
                        connection.getresponse().read()
                    except (OSError, http.client.HTTPException):
                        return
                    if stop.is_set():
                        return

            threads = [threading.Thread(target=flood, daemon=True) for _ in range(2)]
            for thread in threads:
                thread.start()
            until(lambda before=before: len(files(root / "lepton" / "requests")) > before + 100, "some files")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            stop.set()
            for thread in threads:
                thread.join()
    found = parts(root)
    assert len(found) >= 2
    for part in found:
        named = {line["file"] for line in lines(part)}
        there = {str(path.relative_to(part)) for path in files(part)}
        assert named <= there
        assert len(there - named) <= 1
        assert all(path.read_bytes() in data for path in files(part))
    marker = root / "lepton" / "requests" / "pod-1" / ".lepton-requests.json"
    assert json.loads(marker.read_text())["retentionDays"] == 30
