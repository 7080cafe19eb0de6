"""A training that was ended goes on from its last checkpoint and ends as if nothing had happened."""

import json
import shutil
import signal
from typing import Any

import pytest

from .conftest import Pod
from .training import SMALL, Gang, finish, outcome_of, was_told

RANDOM: dict[str, Any] = {
    "network": {**SMALL, "dropout": 0.3, "batchNormalization": True},
    "training": {
        "epochs": 4,
        "batchSize": 16,
        "learningRate": 0.002,
        "learningRateSchedule": {"type": "CosineDecay"},
        "augment": {"rotateDegrees": 10, "shift": 0.1, "contrast": 0.2},
    },
    "checkpoint": {"everySteps": 20},
}


def finished(pod: Pod, processes: list[Any]) -> tuple[str, list[str]]:
    """The version's weights digest, and the checkpoints that the workers went on from."""
    lines = [finish(process) for process in processes]
    result = outcome_of(pod).train
    assert result is not None, outcome_of(pod)
    resumed = [line["checkpoint"] for worker in lines for line in worker if line["message"] == "Resumed"]
    return result.weights_digest, resumed


def forget(pod: Pod) -> None:
    """Another job begins: nothing in the store."""
    for folder in (pod.checkpoints, pod.models):
        shutil.rmtree(folder)
        folder.mkdir()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_killed_in_an_epoch_ends_with_the_weights_of_the_undisturbed_one(
    pod: Pod, key: str, gang: Gang, workers: int
) -> None:
    undisturbed, resumed = finished(pod, gang(key, workers, **RANDOM))
    assert resumed == []
    again, _ = (forget(pod), finished(pod, gang(key, workers, **RANDOM)))[1]
    assert again == undisturbed
    forget(pod)
    processes = gang(key, workers, **RANDOM)
    was_told(processes[0], "Finished epoch", epoch=1)
    was_told(processes[0], "Wrote a checkpoint")
    was_told(processes[0], "Wrote a checkpoint")
    for process in processes:
        process.kill()
        process.communicate()
    digest, resumed = finished(pod, gang(key, workers, attempt=2, uid="later", **RANDOM))
    assert len(resumed) == workers
    assert len(set(resumed)) == 1
    assert resumed[0].startswith("a1/e00000")
    assert digest == undisturbed


def test_a_suspended_training_saves_its_last_step_and_goes_on_in_the_same_attempt(
    pod: Pod, key: str, gang: Gang
) -> None:
    rare = {**RANDOM, "checkpoint": {"everyEpochs": 1000}}
    undisturbed, _ = finished(pod, gang(key, 1, **rare))
    forget(pod)
    [process] = gang(key, 1, **rare)
    was_told(process, "Finished epoch", epoch=1)
    process.send_signal(signal.SIGTERM)
    saved = was_told(process, "Wrote a checkpoint")
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(pod.models.iterdir()) == []
    digest, resumed = finished(pod, gang(key, 1, uid="later", **rare))
    assert resumed == [saved["checkpoint"]]
    assert digest == undisturbed


def test_a_suspended_gang_ends_whole_and_goes_on(pod: Pod, key: str, gang: Gang) -> None:
    undisturbed, _ = finished(pod, gang(key, 2, **RANDOM))
    forget(pod)
    processes = gang(key, 2, **RANDOM)
    was_told(processes[0], "Finished epoch", epoch=1)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 143
    digest, resumed = finished(pod, gang(key, 2, uid="later", **RANDOM))
    assert len(set(resumed)) == 1
    assert digest == undisturbed


def test_a_finished_training_leaves_no_checkpoints(pod: Pod, key: str, gang: Gang) -> None:
    _, resumed = finished(pod, gang(key, 1, **RANDOM))
    assert resumed == []
    assert [path.name for path in pod.checkpoints.iterdir()] == ["publishing.json"]


def test_a_pod_stopped_while_it_writes_the_version_leaves_nothing_of_it_and_the_next_trains_no_more(
    pod: Pod, key: str, gang: Gang
) -> None:
    [process] = gang(key, 1)
    trained = was_told(process, "Trained")
    was_told(process, "Assets written")  # by TensorFlow, into the version's temporary folder
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(pod.models.iterdir()) == []
    [process] = gang(key, 1, attempt=2, uid="later")
    lines = finish(process)
    assert process.returncode == 0
    assert "Finished epoch" not in {line["message"] for line in lines}
    result = outcome_of(pod).train
    assert result is not None
    assert (result.weights_digest, result.epochs) == (trained["weights"], 2)
    lineage = json.loads((pod.models / result.digest / "lineage.json").read_text())
    assert lineage["resumedFrom"] == "a1/e000002-s000000000-pod-0"
