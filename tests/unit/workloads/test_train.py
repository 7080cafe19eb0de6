"""Training in processes of its own, as in a pod: end to end, a lost report, divergence."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.artifact import CHECKSUMS_FILE, Lineage, Signature
from lepton_workloads.contract.outcome import Failure, TrainResult
from lepton_workloads.train import artifact

from .conftest import Pod
from .training import Gang, task_of, train, trained, was_told


def test_a_training_leaves_one_whole_version_and_its_report_can_be_lost(pod: Pod, key: str) -> None:
    result = trained(pod, task_of(key))
    assert result.epochs == 2
    assert result.test_accuracy > 0.8
    assert not result.recovered
    folder = pod.models / result.digest
    assert [path.name for path in pod.models.iterdir()] == [result.digest]
    check_checksums(folder, result)
    check_signature_and_lineage(folder, key, result)
    check_litert(pod, folder, result)
    # The report was lost: the next pod finds the version, trains nothing and needs no dataset.
    (pod.root / "lepton/dataset").unlink()
    code, outcome, lines = train(pod, task_of(key, attempt=2))
    assert code == 0
    assert outcome.train == result.model_copy(update={"recovered": True})
    assert "Trained" not in {line["message"] for line in lines}
    # A note whose version is gone is no version.
    shutil.rmtree(folder)
    pod.monkeypatch.setenv("LEPTON_ROOT", str(pod.root))
    assert artifact.published_result() is None


def check_checksums(folder: Path, result: TrainResult) -> None:
    text = (folder / CHECKSUMS_FILE).read_text()
    assert hashlib.sha256(text.encode()).hexdigest() == result.digest
    listed = dict(reversed(line.split("  ", 1)) for line in text.splitlines())
    files = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != CHECKSUMS_FILE
    }
    assert set(listed) == files
    assert list(listed) == sorted(listed)
    assert {"model.keras", "model.tflite", "saved_model/saved_model.pb", "metrics.json"} <= files
    assert {"model.int8.tflite", "explain.npz", "reference.json", "report.html"} <= files
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert result.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_signature_and_lineage(folder: Path, key: str, result: TrainResult) -> None:
    signature = Signature.model_validate_json((folder / "signature.json").read_text())
    assert signature.inputs[0].shape == [-1, 12, 12, 1]
    assert signature.outputs[0].shape == [-1, 10]
    assert signature.labels == [str(digit) for digit in range(10)]
    lineage = Lineage.model_validate_json((folder / "lineage.json").read_text())
    assert lineage.dataset_key == key
    assert lineage.weights_digest == result.weights_digest
    metrics = json.loads((folder / "metrics.json").read_text())
    assert len(metrics["history"]) == 2
    assert np.sum(metrics["test"]["confusionMatrix"]) == metrics["test"]["samples"]
    assert metrics["test"]["accuracy"] == result.test_accuracy
    assert metrics["litertDifference"] <= 1e-5


def check_litert(pod: Pod, folder: Path, result: TrainResult) -> None:
    """The served file, used as the signature says, has the accuracy that was reported."""
    from ai_edge_litert.interpreter import Interpreter

    signature = Signature.model_validate_json((folder / "signature.json").read_text())
    normalization = signature.preprocessing.normalization
    dataset = pod.root / "lepton/dataset"
    labels = np.fromfile(dataset / "test.labels", "<i4")
    pixels = np.fromfile(dataset / "test.images", np.uint8).reshape(-1, 12, 12, 1)
    interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=1)
    [inputs] = interpreter.get_input_details()
    answer = interpreter.get_signature_runner().get_output_details()[signature.outputs[0].name]
    interpreter.resize_tensor_input(inputs["index"], pixels.shape)
    interpreter.allocate_tensors()
    values = pixels.astype(np.float32) * normalization.scale + normalization.offset
    interpreter.set_tensor(inputs["index"], values.astype(np.float32))
    interpreter.invoke()
    found = interpreter.get_tensor(answer["index"]).argmax(axis=1)
    assert float((found == labels).mean()) == pytest.approx(result.test_accuracy)


def test_a_diverging_training_names_the_step_and_leaves_nothing(pod: Pod, key: str) -> None:
    training = {"epochs": 3, "batchSize": 64, "optimizer": "sgd", "learningRate": 100.0}
    # A silent unit stays silent: with many units and no bound (elu) the loss overflows.
    network = {"convolutions": [16, 16, 16], "dense": [64, 64], "activation": "elu"}
    code, outcome, _ = train(pod, task_of(key, training=training, network=network))
    assert (code, outcome.reason, outcome.terminal) == (3, Failure.DIVERGED, True)
    assert "lower the learning rate (now 100)" in (outcome.message or "")
    assert list(pod.models.iterdir()) == []


@pytest.mark.parametrize(("value", "what"), [(float("nan"), "a weight is"), (3e38, "the validation loss is")])
def test_weights_that_diverge_in_the_very_last_step_are_no_version(
    pod: Pod, key: str, gang: Gang, value: float, what: str
) -> None:
    once: dict[str, Any] = {
        "training": {"epochs": 1, "batchSize": 64},
        "checkpoint": {"everyEpochs": 1000, "everySteps": 23, "keep": 5},
    }
    [process] = gang(key, 1, **once)
    name = was_told(process, "Wrote a checkpoint", checkpoint="a1/e000000-s000000023-pod-0")["checkpoint"]
    process.kill()
    process.wait()
    for later in (pod.checkpoints / "a1").glob("e000001-*"):
        later.unlink()
    spoil(pod.checkpoints / f"{name}.npz", value)
    code, outcome, _ = train(pod, task_of(key, attempt=2, **once))
    assert (code, outcome.reason, outcome.terminal) == (3, Failure.DIVERGED, True)
    assert f"{what} no finite number any more in epoch 1, step 23 of 23" in (outcome.message or "")
    assert list(pod.models.iterdir()) == []


def spoil(path: Path, value: float) -> None:
    """Put a number into all weights of the last layer of a checkpoint."""
    with np.load(path) as file:
        arrays = dict(file)
    arrays["model/00004"][:] = value
    np.savez(path, **arrays)
    note = json.loads(path.with_suffix(".json").read_text())
    note["arraysSha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(note))
