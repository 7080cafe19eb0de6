"""The port of the report and the metrics, and what the metrics are."""

import json
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lepton_workloads.contract.outcome import EXIT_RETRY, Report, parse_report
from lepton_workloads.report import ReportServer
from tests.unit.serving.support import (
    DEADLINE_SECONDS,
    SHAPE,
    TASK,
    Client,
    FakeEngine,
    InProcess,
    Process,
    picture,
    until,
)

ONE = {"instances": [np.zeros(SHAPE).tolist()]}
LABELS_OF = {
    "lepton_server_requests": {"route", "code"},
    "lepton_server_request_duration_seconds": {"route", "le"},
    "lepton_server_model_info": {"model", "version"},
}
"""All that have labels, but for the buckets of histograms."""


def test_report_metrics_and_health_are_at_a_port_of_their_own(served: Process) -> None:
    monitor = Client(served.report_port)
    report = parse_report(monitor.get("/report").json())
    assert report is not None
    assert (report.phase, report.drift) == ("Serving", None)
    answer = monitor.get("/metrics")
    assert answer.headers["content-type"] == served.get("/metrics").headers["content-type"]
    assert 'lepton_server_model_info{model="digits",version="0123456789ab"} 1.0' in answer.body.decode()
    assert monitor.get("/healthz").body == b"ok\n"
    assert monitor.get("/readyz").status == 404
    assert monitor.ask("POST", "/report", b"{}").status == 501


def test_the_report_names_its_owner(root: Path) -> None:
    task = TASK.model_copy(update={"owner_uid": "4c1f"})
    server = Process(root, LEPTON_TASK=task.to_json()).wait_ready()
    assert Client(server.report_port).get("/report").json()["ownerUid"] == "4c1f"
    server.kill()


def test_the_report_tells_of_loading_before_serving() -> None:
    gate = threading.Event()

    def load() -> FakeEngine:
        assert gate.wait(DEADLINE_SECONDS)
        return FakeEngine(lambda batch: np.full((len(batch), 4), 0.25, np.float32))

    with ReportServer(Report(owner_uid="u", phase="Loading"), 0) as reports:
        server = InProcess(load, reports=reports)
        until(lambda: server.get("/healthz").status == 200, "the socket")
        assert Client(reports.port).get("/report").json()["phase"] == "Loading"
        assert server.metric("lepton_server_ready") == 0
        gate.set()
        until(server.ready, "the model")
        until(lambda: reports.current.phase == "Serving", "the report")
        assert server.metric("lepton_server_ready") == 1
        server.stop()


def test_a_taken_port_ends_the_process_with_a_sentence(root: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        code, outcome = Process(root, LEPTON_REPORT_PORT=str(port)).outcome()
    assert code == EXIT_RETRY
    assert outcome["reason"] == "InvalidSpec"
    assert (
        f"port {port}, where the report and the metrics are, can't be opened: Address already in use"
        in (outcome["message"])
    )


def test_metrics_are_well_formed_and_their_labels_bounded(root: Path) -> None:
    """Whatever clients ask for: paths, methods, models and versions of their own make no series."""
    server = Process(root).wait_ready()

    def series() -> set[tuple[str, ...]]:
        text = server.get("/metrics").body.decode()
        families = list(text_string_to_metric_families(text))
        for family in families:
            assert family.documentation, family.name
            assert family.type in {"counter", "gauge", "histogram"}, family.name
            assert family.name.startswith(("lepton_server_", "process_")), family.name
            for sample in family.samples:
                expected = LABELS_OF.get(family.name, {"le"} if family.type == "histogram" else set())
                assert set(sample.labels) <= expected, sample
        samples = [sample for family in families for sample in family.samples]
        keys = [(sample.name, *sorted(sample.labels.items())) for sample in samples]
        assert len(keys) == len(set(keys))
        return {tuple(map(str, key)) for key in keys}

    def ask(number: int) -> None:
        server.predict(ONE)
        server.predict({"instances": [number]})
        server.ask("POST", "/classify", picture(seed=number))
        server.ask("POST", "/classify", b"no picture %d" % number)
        server.predict(ONE, f"/v1/models/other-{number}:predict")
        server.predict(ONE, f"/v1/models/digits/versions/{number}:predict")
        server.get(f"/nothing/{number}?x={number}")
        server.ask("DELETE", "/classify")
        server.ask(
            f"M{number}", f"/{number}", json.dumps(ONE).encode(), {"lepton-source": f"camera-{number}"}
        )

    ask(0)
    series()
    before = series()
    for number in range(1, 20):
        ask(number)
    assert series() == before
    for code in ("200", "400", "404", "405"):
        assert any(f"('code', '{code}')" in key for key in before), code
    server.kill()


@pytest.mark.parametrize("value", ["x", "-1", "70000"])
def test_a_wrong_port_is_named(root: Path, value: str) -> None:
    _, outcome = Process(root, LEPTON_REPORT_PORT=value).outcome()
    assert outcome["message"].startswith("LEPTON_REPORT_PORT must be a number from 0 to 65535")
