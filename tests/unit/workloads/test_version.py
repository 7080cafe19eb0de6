"""What a version holds beside the network: figures, 8 bits, explanations, reference, events, report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.artifact import Reference
from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.outcome import MAX_MESSAGE_BYTES, Outcome, Report, TrainResult
from lepton_workloads.explain import load_explainer
from lepton_workloads.report import ReportServer

from .story import epochs
from .test_fold import KEY, dataset
from .training import task_of

SIZES = {SplitName.TRAIN: 40, SplitName.VALIDATION: 13, SplitName.TEST: 17}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the version of a network that was never trained; tells folder, result and phases."""
    from lepton_workloads.train.network import build_network
    from lepton_workloads.train.version import write_version

    monkeypatch.setenv("LEPTON_ROOT", str(tmp_path))
    (tmp_path / "lepton/dataset").mkdir(parents=True)
    folder = tmp_path / "version"
    folder.mkdir()

    def run(sizes: dict[SplitName, int] = SIZES, history: int = 3, **task: Any) -> Any:
        data, told = dataset(sizes), task_of(KEY, **task)
        model = build_network(told.network, data.manifest.picture, len(data.manifest.labels))
        names = "".join(f'"c/{number}.png"\n' for number in range(sizes[SplitName.TEST]))
        (tmp_path / "lepton/dataset/test.files").write_text(names)
        trained = SimpleNamespace(
            model=model,
            history=epochs(history, validation=bool(sizes[SplitName.VALIDATION])),
            seconds=3.5,
            best_epoch=2,
            stopped_early=True,
            resumed_from="a1/e000001",
        )
        server = ReportServer(Report(owner_uid="u"), port=0)
        phases: list[str] = []
        monkeypatch.setattr(server, "update", lambda **fields: phases.append(fields["phase"]))
        result = write_version(folder, told, data, trained, server, facts(told))  # type: ignore[arg-type]
        server._server.server_close()
        return SimpleNamespace(folder=folder, result=result, phases=phases, data=data, model=model)

    return run


def facts(task: Any) -> dict[str, Any]:
    """The lineage's fields that the worker knows."""
    from .story import lineage

    theirs = {"tensorflow", "keras", "weights_digest"}
    return {name: value for name, value in lineage(task) if name not in theirs}


def test_figures_stand_in_the_result_and_the_rest_in_the_metrics(write: Any) -> None:
    written = write(gate={"metric": "recall", "label": "b", "atLeast": 0.9}, topK=2)
    result: TrainResult = written.result
    metrics = json.loads((written.folder / "metrics.json").read_text())
    test = metrics["test"]
    assert result.test_accuracy == test["accuracy"]
    assert (result.precision, result.recall, result.f1) == (test["precision"], test["recall"], test["f1"])
    assert result.expected_calibration_error == test["expectedCalibrationError"]
    assert (test["topK"], result.top_k_accuracy) == (2, test["topKAccuracy"])
    assert result.gate_value == test["perClass"][1]["recall"] == metrics["gateValue"]
    assert (result.best_epoch, result.stopped_early, result.epochs) == (2, True, 3)
    assert len(test["reliability"]) == 15
    assert result.validation_accuracy == metrics["validation"]["accuracy"]
    message = Outcome(train=result).to_json()
    assert len(message.encode()) <= MAX_MESSAGE_BYTES
    # Each long step says that it goes on.
    assert written.phases == ["Evaluating", "Exporting", "Quantizing", "Reporting"]


def test_the_8_bit_version_is_judged_on_the_validation_split(write: Any) -> None:
    from lepton_workloads.train.litert import LiteRtFile, predict_litert

    written = write()
    found = json.loads((written.folder / "metrics.json").read_text())["quantization"]
    split = written.data.splits[SplitName.VALIDATION]
    normalization = written.data.manifest.normalization
    answers = {
        name: predict_litert(written.folder / f"{name}.tflite", split, normalization)
        for name in ("model", "model.int8")
    }
    accuracy = {
        name: float((answer.argmax(axis=1) == split.labels).mean()) for name, answer in answers.items()
    }
    assert (found["split"], found["samples"]) == ("validation", 13)
    assert written.result.float_accuracy == found["floatAccuracy"] == accuracy["model"]
    assert written.result.int8_accuracy == found["int8Accuracy"] == accuracy["model.int8"]
    assert 0 < found["largestDifference"] < 0.1
    # All integer inside: every weight and activation, but not the way in and out.
    details = LiteRtFile(written.folder / "model.int8.tflite", 1)._interpreter.get_tensor_details()
    kinds = [np.dtype(one["dtype"]).name for one in details if one["name"]]
    assert kinds.count("float32") == 2
    assert "int8" in kinds


def test_without_a_validation_split_the_test_split_tells(write: Any) -> None:
    written = write({**SIZES, SplitName.VALIDATION: 0})
    metrics = json.loads((written.folder / "metrics.json").read_text())
    assert "validation" not in metrics
    assert (metrics["quantization"]["split"], metrics["quantization"]["samples"]) == ("test", 17)
    assert written.result.validation_accuracy is None
    assert written.result.int8_accuracy is not None
    assert json.loads((written.folder / "reference.json").read_text())["split"] == "test"
    assert not (written.folder / "tensorboard/validation").exists()


def test_a_network_that_has_no_8_bit_version_is_a_version_all_the_same(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    real = tf.lite.TFLiteConverter.from_saved_model

    def refuse(*args: Any, **kwargs: Any) -> Any:
        converter = real(*args, **kwargs)
        convert = converter.convert

        def maybe() -> Any:
            if converter.optimizations:
                (tmp_path / "version/model.int8.tflite").write_bytes(b"half")
                raise RuntimeError("Quantization not yet supported for op: 'STRANGE'")
            return convert()

        converter.convert = maybe
        return converter

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", refuse)
    written = write()
    found = json.loads((written.folder / "metrics.json").read_text())["quantization"]
    assert "STRANGE" in found["error"]
    assert "int8Accuracy" not in found
    assert written.result.int8_accuracy is None
    assert written.result.float_accuracy == found["floatAccuracy"]
    assert not (written.folder / "model.int8.tflite").exists()
    assert "model.int8.tflite" not in (written.folder / "SHA256SUMS").read_text()
    assert "STRANGE" in (written.folder / "report.html").read_text()


def test_explanations_and_report_are_there(write: Any) -> None:
    written = write()
    explainer = load_explainer(written.folder / "explain.npz")
    assert explainer.sums_outputs == ["dense_0_sums"]
    assert explainer.first.shape == (16, 6)
    html = (written.folder / "report.html").read_text()
    wrong = round(17 * (1 - written.result.test_accuracy))
    assert html.count("<figcaption>") == wrong
    assert "c/" in html


def test_the_reference_holds_what_the_validation_split_looks_like(write: Any) -> None:
    from lepton_workloads.train.predict import predict

    written = write()
    found = Reference.model_validate_json((written.folder / "reference.json").read_text())
    split = written.data.splits[SplitName.VALIDATION]
    answers = predict(written.model, split, written.data.manifest.normalization)
    assert (found.split, found.samples) == ("validation", 13)
    assert found.predicted == (np.bincount(answers.argmax(axis=1), minlength=3) / 13).tolist()
    means = split.images.astype(float).mean(axis=(1, 2, 3))
    assert found.brightness.edges == pytest.approx(np.quantile(means, np.arange(1, 10) / 10))
    assert len(found.channel_means) == 1
    assert found.channel_means[0] == found.brightness
    for histogram in (found.brightness, found.contrast, found.confidence):
        assert len(histogram.shares) == len(histogram.edges) + 1 == 10
        assert sum(histogram.shares) == pytest.approx(1)


def test_tensorboard_reads_the_history(write: Any) -> None:
    import tensorflow as tf

    written = write(history=4)
    root = written.folder / "tensorboard"

    def by_epoch(figure: str) -> list[tuple[int, float]]:
        return [(epoch.epoch - 1, getattr(epoch, figure)) for epoch in epochs(4)]

    train, validation = events(root / "train"), events(root / "validation")
    for name, figure in [("epoch_loss", "loss"), ("epoch_accuracy", "accuracy")]:
        np.testing.assert_allclose(train[name], by_epoch(figure), rtol=1e-6)
        np.testing.assert_allclose(validation[name], by_epoch(f"validation_{figure}"), rtol=1e-6)
    np.testing.assert_allclose(train["epoch_learning_rate"], by_epoch("learning_rate"), rtol=1e-6)
    [file] = (root / "test").iterdir()
    [value] = [
        value for event in tf.compat.v1.train.summary_iterator(str(file)) for value in event.summary.value
    ]
    assert (value.tag, value.metadata.plugin_data.plugin_name) == ("confusion_matrix", "images")
    width, height, png = tf.make_ndarray(value.tensor)
    assert tf.io.decode_png(png).shape == (int(height), int(width), 1)


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each scalar, as TensorFlow's own reader sees them."""
    import tensorflow as tf

    found: dict[str, list[tuple[int, float]]] = {}
    [file] = folder.iterdir()
    for event in tf.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found
