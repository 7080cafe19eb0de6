"""Input that can't work is named before anything is trained."""

import hashlib
import json

import numpy as np
import pytest

from lepton_workloads.contract.outcome import Failure, FoldResult, Outcome
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train import artifact, run

from .conftest import Pod
from .training import report_ports, task_of, train


def in_process(pod: Pod, task: TrainTask) -> WorkloadError:
    """For failures that come before TensorFlow is needed."""
    pod.monkeypatch.setenv("LEPTON_TASK", task.to_json())
    with pytest.raises(WorkloadError) as caught:
        run.main()
    return caught.value


def test_a_missing_or_other_dataset_is_not_ready(pod: Pod, key: str) -> None:
    other = in_process(pod, task_of("0" * 64))
    assert (other.reason, other.terminal) == (Failure.DATASET_NOT_READY, False)
    (pod.root / "lepton/dataset").unlink()
    (pod.root / "lepton/dataset").mkdir()
    assert in_process(pod, task_of(key)).reason == Failure.DATASET_NOT_READY


def test_a_damaged_dataset_is_invalid(pod: Pod, key: str) -> None:
    with (pod.datasets / key / "train.images").open("r+b") as file:
        file.write(b"\xff\xff\xff\xff")
    error = in_process(pod, task_of(key))
    assert (error.reason, error.terminal) == (Failure.INVALID_DATA, True)
    assert "sha256 of train.images" in error.message


@pytest.mark.parametrize("label", [10, -1])
def test_a_label_that_is_no_class_is_named_with_its_file(pod: Pod, key: str, label: int) -> None:
    folder = pod.datasets / key
    labels = np.fromfile(folder / "validation.labels", "<i4")
    labels[5] = label
    labels.tofile(folder / "validation.labels")
    manifest = json.loads((folder / "dataset.json").read_text())
    digest = hashlib.sha256((folder / "validation.labels").read_bytes()).hexdigest()
    manifest["checksums"]["validation.labels"] = digest
    (folder / "dataset.json").write_text(json.dumps(manifest))
    file = json.loads((folder / "validation.files").read_text().splitlines()[5])
    error = in_process(pod, task_of(key))
    assert (error.reason, error.terminal) == (Failure.INVALID_DATA, True)
    assert f"validation split are out of range: sample 5 ({file}) has label {label}" in error.message


def test_a_batch_that_the_workers_can_t_share_is_refused(pod: Pod) -> None:
    error = in_process(pod, task_of("k", workers=3, peers=["a", "b", "c"]))
    assert "batchSize 64 is not a multiple of the 3 workers" in error.message


def test_a_gate_for_an_unknown_label_is_refused_with_the_labels_that_there_are(pod: Pod, key: str) -> None:
    error = in_process(pod, task_of(key, gate={"metric": "recall", "label": "ten", "atLeast": 0.9}))
    assert (error.reason, error.terminal) == (Failure.INVALID_SPEC, True)
    assert "gate.label 'ten' is no class of the dataset d, whose labels are 0, 1, 2" in error.message


def test_a_version_to_start_from_that_is_not_there_is_named(pod: Pod, key: str) -> None:
    error = in_process(pod, task_of(key, warmStart={"digest": "ab" * 32}))
    assert (error.reason, error.terminal) == (Failure.SOURCE_NOT_FOUND, True)
    assert "the store holds no version abababababab" in error.message


def test_a_volume_for_checkpoints_that_can_t_be_read_is_named(pod: Pod, key: str) -> None:
    pod.checkpoints.rmdir()
    pod.checkpoints.symlink_to(pod.checkpoints)
    error = in_process(pod, task_of(key))
    assert (error.reason, error.terminal) == (Failure.STORAGE_FAILED, False)


def test_missing_peers_are_named(pod: Pod, key: str) -> None:
    [port, _] = report_ports()
    peers = ["127.0.0.1:1", f"127.0.0.1:{port}"]
    error = in_process(pod, task_of(key, workers=2, peers=peers, startupDeadlineSeconds=0))
    assert (error.reason, error.terminal) == (Failure.PEERS_NOT_READY, False)
    assert f"worker 1 (127.0.0.1:{port})" in error.message


def test_a_picture_too_small_for_the_poolings_is_invalid(pod: Pod, key: str) -> None:
    code, outcome, _ = train(pod, task_of(key, network={"convolutions": [4, 4, 4, 4]}))
    assert (code, outcome.reason) == (3, Failure.INVALID_SPEC)
    assert "nothing is left of them after block 4 of 4" in (outcome.message or "")


def test_a_finished_fold_never_runs_again(pod: Pod) -> None:
    task = task_of("k", fold={"index": 1, "folds": 3})
    result = FoldResult(fold=1, samples=30, accuracy=0.9, loss=0.2, epochs=2, seconds=1.5)
    artifact.publish_fold(task, result, result)
    pod.monkeypatch.setenv("LEPTON_TASK", task.model_copy(update={"attempt": 2}).to_json())
    assert run.main() == Outcome(fold=result)
    other = task_of("k", fold={"index": 2, "folds": 3})
    assert artifact.published(other) is None
