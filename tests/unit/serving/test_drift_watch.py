"""Drift as it is seen from outside: by metrics, report and log of a server that answers requests."""

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_workloads.contract.artifact import Reference, Tensor
from lepton_workloads.contract.data import Normalization, SplitName
from lepton_workloads.contract.outcome import EXIT_TERMINAL, DriftFigures, parse_report
from lepton_workloads.contract.serving import Drift
from lepton_workloads.decode import normalize
from lepton_workloads.drift import picture_statistics, quantile_histogram
from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.drift.watch import DriftWatch, pixels_of
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Prediction
from lepton_workloads.serve.version import read_reference
from lepton_workloads.termination import WorkloadError
from tests.unit.serving.support import (
    LABELS,
    SHAPE,
    SIGNATURE,
    TASK,
    Client,
    Process,
    litert,
    picture,
    read,
    until,
)

WATCHING = TASK.model_copy(update={"drift": Drift(window=500), "owner_uid": "4c1f"})
SCALE = SIGNATURE.preprocessing.normalization


def pixels(count: int, seed: int, darker: int = 0) -> np.ndarray:
    """Pictures of different brightness."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 100, (count, *SHAPE)) + random.integers(0, 120, (count, 1, 1, 1))
    return (noise + 30 - darker).clip(0, 255).astype(np.uint8)


def make_reference(count: int = 1000) -> Reference:
    """As training would write it."""
    seen = pixels(count, seed=99)
    found, answers = picture_statistics(seen), litert(normalize(seen, SCALE))
    return Reference(
        split=SplitName.VALIDATION,
        samples=count,
        channel_means=[quantile_histogram(values) for values in found.channel_means.T],
        brightness=quantile_histogram(found.brightness),
        contrast=quantile_histogram(found.contrast),
        predicted=(np.bincount(answers.argmax(axis=1), minlength=len(LABELS)) / count).tolist(),
        confidence=quantile_histogram(answers.max(axis=1).astype(np.float64)),
    )


@pytest.fixture
def watching(root: Path) -> Iterator[Process]:
    """A server that watches for drift, in a window of 500."""
    (root / "lepton" / "model" / "reference.json").write_text(make_reference().to_json())
    process = Process(root, LEPTON_TASK=WATCHING.to_json())
    try:
        yield process.wait_ready()
    finally:
        process.kill()


class Sender:
    """Sends pictures as numbers, 25 a request on one connection, other ones each time."""

    def __init__(self, server: Process) -> None:
        self._connection: http.client.HTTPConnection = server.connect()
        self._seed = 0

    def send(self, darker: int = 0) -> None:
        self._seed += 1
        inputs = normalize(pixels(25, self._seed, darker), SCALE)
        body = json.dumps({"instances": inputs.tolist()})
        self._connection.request("POST", "/v1/models/digits:predict", body)
        assert read(self._connection).status == 200

    def until(self, condition: Callable[[], bool], what: str, darker: int = 0) -> None:
        def sent_and_true() -> bool:
            self.send(darker)
            return condition()

        until(sent_and_true, what)


def figures(server: Process) -> DriftFigures:
    report = parse_report(Client(server.report_port).get("/report").json())
    assert report is not None
    assert report.owner_uid == "4c1f"
    return report.drift or DriftFigures(samples=0, drifting=False)


def test_darker_pictures_are_found_and_the_old_ones_end_it(watching: Process) -> None:
    sender = Sender(watching)
    sender.until(lambda: figures(watching).samples > 100, "the first predictions")
    assert figures(watching).indexes == {}
    sender.until(lambda: bool(figures(watching).indexes), "a full window")
    seen = figures(watching)
    assert seen.samples == 500
    names = {"brightness", "contrast", "predicted", "confidence", "channel_0", "channel_1", "channel_2"}
    assert set(seen.indexes) == names
    assert all(index < 0.2 for index in seen.indexes.values())
    assert not seen.drifting
    for name in names:
        assert watching.metric(f'lepton_server_drift_level{{figure="{name}"}}') == 0.2

    sender.until(lambda: figures(watching).drifting, "drift", darker=60)
    assert figures(watching).indexes["brightness"] > 1
    assert watching.metric("lepton_server_drifting") == 1
    assert watching.metric('lepton_server_drift_index{figure="brightness"}') > 1
    assert watching.metric("lepton_server_drift_samples") == 500
    [line] = until(lambda: watching.lines("Found drift"), "the log")
    assert line["brightness"] > 0.2

    sender.until(lambda: not figures(watching).drifting, "its end")
    assert watching.metric("lepton_server_drifting") == 0
    assert watching.lines("Drift was over")
    assert watching.metric("lepton_server_observer_failures_total") == 0


def test_picture_files_count_as_numbers_do(watching: Process) -> None:
    for number in range(30):
        assert watching.ask("POST", "/classify", picture(seed=number)).status == 200
    assert watching.predict({"instances": [np.zeros(SHAPE).tolist()] * 3}).status == 200
    until(lambda: watching.metric("lepton_server_drift_samples") == 33, "the pictures")
    assert watching.metric('lepton_server_drift_predictions_total{result="examined"}') == 33
    until(lambda: figures(watching).samples == 33, "the report")


def test_without_drift_in_the_spec_nothing_is_watched(served: Process) -> None:
    assert b"drift" not in served.get("/metrics").body.replace(b"drift watch", b"")
    assert "drift" not in Client(served.report_port).get("/report").json()


def test_without_a_reference_the_server_ends_with_a_sentence(root: Path) -> None:
    code, outcome = Process(root, LEPTON_TASK=WATCHING.to_json()).outcome()
    assert (code, outcome["reason"], outcome["terminal"]) == (EXIT_TERMINAL, "InvalidSpec", True)
    assert outcome["message"].startswith("drift needs reference.json, which this version has not: ")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"samples": 0}, "samples must be 1 or more"),
        ({"predicted": [1.0]}, "predicted must hold a share for each of the labels"),
        ({"predicted": [2.0, 0, 0, -1]}, "predicted must hold a share for each of the labels"),
        ({"channelMeans": []}, "channelMeans must hold 3"),
        ({"brightness": {"edges": [2, 1], "shares": [0.5, 0.25, 0.25]}}, "brightness: edges must ascend"),
        ({"contrast": {"edges": [1], "shares": [1.0]}}, "contrast: edges must ascend"),
        ({"confidence": {"edges": [], "shares": []}}, "confidence: edges must ascend"),
        ({"confidence": {"edges": [], "shares": [float("nan")]}}, "reference.json can't be used"),
        ({"version": 2}, "reference.json can't be used"),
    ],
)
def test_a_reference_that_cannot_be_used_is_named(
    tmp_path: Path, change: dict[str, object], text: str
) -> None:
    content = make_reference(20).to_json_dict() | change
    (tmp_path / "reference.json").write_text(json.dumps(content))
    with pytest.raises(WorkloadError, match=text) as raised:
        read_reference(tmp_path, SIGNATURE)
    assert (raised.value.reason, raised.value.terminal) == ("InvalidData", True)


@pytest.mark.parametrize(("shape", "most"), [(SHAPE, 2000), ((256, 256, 3), 60)])
def test_more_than_can_be_counted_is_skipped_and_held_by_nobody(
    shape: tuple[int, int, int], most: int
) -> None:
    """Fewer of large pictures, since each costs more."""
    metrics = Metrics("digits", "1")
    signature = SIGNATURE.model_copy(update={"inputs": [Tensor(name="pixels", shape=[-1, *shape])]})
    watch = DriftWatch(Drift(window=500), make_reference(100), signature, metrics)
    for _ in range(500):
        inputs = np.zeros((20, *shape), np.float32)
        watch(Prediction(inputs, np.full((20, len(LABELS)), 0.25, np.float32), (), Caller()))
    told: list[DriftFigures] = []
    watch.start(told.append)
    until(lambda: told, "the figures")
    watch.stop()

    def count(result: str) -> float:
        name = "lepton_server_drift_predictions_total"
        return metrics.registry.get_sample_value(name, {"result": result}) or 0

    assert count("examined") + count("skipped") == 10_000
    assert 0 < count("examined") < most


@given(
    st.floats(1 / 1024, 4),
    st.floats(-200, 200).map(lambda offset: offset / 100),
    st.integers(0, 2**32 - 1),
)
def test_pixels_come_back_exactly(scale: float, offset: float, seed: int) -> None:
    normalization = Normalization(scale=scale, offset=offset)
    seen = np.random.default_rng(seed).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    assert (pixels_of(normalize(seen, normalization), normalization) == seen).all()


def test_numbers_that_no_picture_holds_become_the_nearest_pixels() -> None:
    odd = np.array([3e38, -3e38, 1.0, -1.0, 50.0], np.float32)
    found = pixels_of(odd, Normalization(scale=1e-3, offset=0))
    assert found.tolist() == [255, 0, 255, 0, 255]
