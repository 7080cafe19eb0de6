"""What the spec may ask of a training: early stopping, schedules, precision, XLA, an earlier version."""

import json
import shutil
from typing import Any

import pytest

from lepton_workloads.contract.outcome import EXIT_RETRY, Failure

from .conftest import Pod
from .training import SMALL, Gang, finish, outcome_of, report_ports, task_of, train, trained, was_told


def history_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["message"] == "Finished epoch"]


EARLY: dict[str, Any] = {
    "training": {
        "epochs": 40,
        "batchSize": 64,
        "learningRate": 0.01,
        # An accuracy that is at its best soon improves no more.
        "earlyStopping": {"monitor": "validationAccuracy", "patience": 3},
        "learningRateSchedule": {
            "type": "ReduceLROnPlateau",
            "monitor": "validationAccuracy",
            "patience": 2,
            "factor": 0.5,
        },
    }
}


def test_a_training_that_improves_no_more_stops_and_has_the_weights_of_its_best_epoch(
    pod: Pod, key: str, gang: Gang
) -> None:
    code, outcome, lines = train(pod, task_of(key, **EARLY))
    assert code == 0, outcome
    epochs = history_of(lines)
    [stopped] = [line for line in lines if line["message"] == "Stopped early"]
    accuracies = [line["validationAccuracy"] for line in epochs]
    best = accuracies.index(max(accuracies)) + 1
    assert len(epochs) == best + 3 < 40
    assert (stopped["epoch"], stopped["best_epoch"]) == (best + 3, best)
    assert outcome.train is not None
    assert outcome.train.weights_digest == epochs[best - 1]["weights"]
    assert (outcome.train.best_epoch, outcome.train.stopped_early) == (best, True)
    rates = [line["learningRate"] for line in epochs]
    assert rates[0] == pytest.approx(0.01)
    # The figures of an epoch have the rate that it was trained with.
    assert rates[best + 1 :] == pytest.approx([0.01, 0.005])
    # Killed between the best epoch and the end, it stops at the same epoch with the same weights.
    for folder in (pod.checkpoints, pod.models):
        shutil.rmtree(folder)
        folder.mkdir()
    [process] = gang(key, 1, **EARLY)
    was_told(process, "Wrote a checkpoint", checkpoint=f"a1/e{best + 1:06d}-s000000000-pod-0")
    process.kill()
    process.wait()
    newest = sorted((pod.checkpoints / "a1").glob(f"e{best + 2:06d}-*"))
    for later in [*newest, *(pod.checkpoints / "a1").glob(f"e{best + 3:06d}-*")]:
        later.unlink()
    code, again, lines = train(pod, task_of(key, attempt=2, **EARLY))
    assert code == 0, again
    assert [line["epoch"] for line in history_of(lines)] == [best + 2, best + 3]
    assert again.train is not None
    assert again.train.weights_digest == outcome.train.weights_digest
    assert (again.train.best_epoch, again.train.stopped_early) == (best, True)


def test_the_last_weights_are_kept_when_the_spec_says_so(pod: Pod, key: str) -> None:
    training = json.loads(json.dumps(EARLY["training"]))
    training["earlyStopping"]["restoreBestWeights"] = False
    code, outcome, lines = train(pod, task_of(key, training=training))
    assert code == 0
    assert outcome.train is not None
    assert outcome.train.weights_digest == history_of(lines)[-1]["weights"]
    assert (outcome.train.best_epoch, outcome.train.stopped_early) == (None, True)


EVERYTHING: dict[str, Any] = {
    "network": {**SMALL, "batchNormalization": True, "dropout": 0.2, "convolutionDropout": 0.1},
    "training": {
        "epochs": 2,
        "batchSize": 64,
        "learningRate": 0.01,
        "learningRateSchedule": {"type": "CosineDecay", "warmupEpochs": 1},
        "optimizer": "adamw",
        "optimizerParameters": {"globalClipNorm": 1.0, "weightDecay": 0.01},
        "loss": "categorical_focal_crossentropy",
        "labelSmoothing": 0.1,
        "precision": "mixed_bfloat16",
        "augment": {"rotateDegrees": 10, "shift": 0.1, "zoom": 0.1, "brightness": 0.1, "contrast": 0.1},
    },
}


def weights_of(pod: Pod, key: str, gang: Gang, workers: int, **fields: Any) -> list[str]:
    """Digest of each epoch and the end, the same on all workers."""
    for folder in (pod.checkpoints, pod.models):
        shutil.rmtree(folder)
        folder.mkdir()
    said = []
    for process in gang(key, workers, **fields):
        said.append([line["weights"] for line in finish(process) if "weights" in line])
        assert process.returncode == 0
    assert all(lines == said[0] for lines in said)
    return said[0]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_same_spec_gives_the_same_weights_twice_with_all_randomness_on(
    pod: Pod, key: str, gang: Gang, workers: int, compiled: bool
) -> None:
    training = {**EVERYTHING["training"], "jitCompile": compiled}
    fields = {"network": {**EVERYTHING["network"], "batchNormalization": not compiled}, "training": training}
    first = weights_of(pod, key, gang, workers, **fields)
    assert len(set(first)) == 2  # two epochs; the end is the last of them
    assert weights_of(pod, key, gang, workers, **fields) == first


def test_clipping_and_batch_normalization_mean_the_whole_batch_whatever_the_number_of_workers(
    pod: Pod, key: str, gang: Gang
) -> None:
    training = {"epochs": 2, "batchSize": 64, "learningRate": 0.01, "optimizer": "sgd"}
    training["optimizerParameters"] = {"clipNorm": 0.05, "momentum": 0.9}
    fields = {"network": {**SMALL, "batchNormalization": True}, "training": training}
    losses = []
    for workers in (1, 2):
        for folder in (pod.checkpoints, pod.models):
            shutil.rmtree(folder)
            folder.mkdir()
        lines, *_ = [finish(process) for process in gang(key, workers, **fields)]
        losses.append([line["loss"] for line in history_of(lines)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_gang_whose_workers_compute_differently_ends_and_names_them(pod: Pod, key: str, gang: Gang) -> None:
    ports = report_ports()
    peers = [f"127.0.0.1:{port}" for port in ports]
    tasks = [
        task_of(
            key,
            workers=2,
            peers=peers,
            training={"batchSize": 64, "optimizerParameters": {"epsilon": epsilon}},
        )
        for epsilon in (1e-7, 1e-2)
    ]
    for index, process in enumerate(gang.start(tasks, ports)):
        process.communicate(timeout=300)
        assert process.returncode == EXIT_RETRY
        outcome = outcome_of(pod, index)
        assert (outcome.reason, outcome.terminal) == (Failure.INTERNAL_ERROR, False)
        assert "after epoch 1 the weights differ between the workers: worker 1" in (outcome.message or "")
    assert list(pod.models.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_earlier_version_is_gone_on_from_and_frozen_layers_stay(
    pod: Pod, key: str, gang: Gang, workers: int
) -> None:
    import keras

    first = trained(pod, task_of(key))
    shutil.rmtree(pod.checkpoints)
    pod.checkpoints.mkdir()
    start = {"digest": first.digest, "frozenLayers": ["convolution_0"]}
    lines, *_ = [finish(process) for process in gang(key, workers, warmStart=start)]
    second = outcome_of(pod).train
    assert second is not None, outcome_of(pod)
    assert history_of(lines)[0]["loss"] < first.train_loss
    models = [
        keras.saving.load_model(pod.models / result.digest / "model.keras") for result in (first, second)
    ]
    kept, changed = (
        [model.get_layer(name).get_weights() for model in models] for name in ("convolution_0", "dense_0")
    )
    assert all((before == after).all() for before, after in zip(*kept, strict=True))
    assert any((before != after).any() for before, after in zip(*changed, strict=True))
    lineage = json.loads((pod.models / second.digest / "lineage.json").read_text())
    assert lineage["warmStart"] == first.digest


def test_watching_validation_without_a_validation_split_is_refused(pod: Pod) -> None:
    pod.use_digits()
    picture = {"height": 8, "width": 8, "channels": 1}
    split = {"train": 0.9, "validation": 0.0, "test": 0.1}
    result = pod.prepare(builtin="digits", sourcePath=None, picture=picture, split=split).prepare
    assert result is not None
    (pod.root / "lepton/dataset").symlink_to(pod.datasets / result.key)
    code, outcome, _ = train(pod, task_of(result.key, training={"earlyStopping": {}}))
    assert (code, outcome.reason) == (3, Failure.INVALID_SPEC)
    assert "training.earlyStopping.monitor is validationLoss, but the dataset d has no validation split" in (
        outcome.message or ""
    )
