"""A fold of a cross-validation is judged on the part that was held out, and on nothing else."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.data import DatasetManifest, Normalization, Picture, SplitInfo, SplitName
from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.train.data import Dataset, SplitData

from .training import task_of

KEY = "0" * 64


def dataset(sizes: dict[SplitName, int]) -> Dataset:
    """Noise of 3 classes with 8 x 8 grey pictures."""
    random = np.random.default_rng(1)
    splits = {
        name: SplitData(
            random.integers(0, 256, (size, 8, 8, 1), np.uint8), (np.arange(size) % 3).astype(np.int32)
        )
        for name, size in sizes.items()
    }
    manifest = DatasetManifest(
        key=KEY,
        labels=["a", "b", "c"],
        picture=Picture(height=8, width=8, channels=1),
        normalization=Normalization(),
        decoder="test",
        splits={name: SplitInfo(samples=size, per_class=[0, 0, 0]) for name, size in sizes.items()},
        checksums={},
    )
    return Dataset(manifest, splits)


def trained(task: Any, data: Dataset) -> Any:
    """What a loop of one epoch would leave."""
    from lepton_workloads.train.network import build_network

    model = build_network(task.network, data.manifest.picture, len(data.manifest.labels))
    epoch = Epoch(epoch=4, loss=1.0, accuracy=0.5, seconds=1.0, images_per_second=1.0)
    return SimpleNamespace(model=model, history=[epoch], seconds=12.5)


def test_a_fold_is_judged_on_its_held_out_part() -> None:
    from lepton_workloads.train.evaluate import fold_metrics

    data = dataset({SplitName.TRAIN: 30, SplitName.VALIDATION: 12, SplitName.TEST: 0})
    task = task_of(KEY, fold={"index": 2, "folds": 5}, topK=2)
    model = trained(task, data)
    found = fold_metrics(task, data, model)
    result = found.result
    assert (result.fold, result.samples, result.epochs, result.seconds) == (2, 12, 4, 12.5)
    assert (result.accuracy, result.f1) == (found.held_out.accuracy, found.held_out.f1)
    assert np.sum(found.held_out.confusion_matrix) == 12
    assert found.held_out.top_k == 2


def test_a_task_that_is_no_fold_has_nothing_held_out() -> None:
    from lepton_workloads.train.evaluate import fold_metrics

    data = dataset({SplitName.TRAIN: 3, SplitName.VALIDATION: 3, SplitName.TEST: 3})
    with pytest.raises(ValueError, match="held out"):
        fold_metrics(task_of(KEY), data, None)  # type: ignore[arg-type]


def test_the_loss_is_that_of_the_training() -> None:
    from lepton_workloads.train.evaluate import fold_metrics

    data = dataset({SplitName.TRAIN: 6, SplitName.VALIDATION: 9, SplitName.TEST: 0})
    fold = {"index": 0, "folds": 2}
    plain = task_of(KEY, fold=fold)
    smooth = task_of(
        KEY, fold=fold, training={"loss": "categorical_crossentropy", "labelSmoothing": 0.5, "epochs": 1}
    )
    model = trained(plain, data)
    one, other = (fold_metrics(task, data, model).held_out for task in (plain, smooth))
    assert one.accuracy == other.accuracy
    assert one.loss != pytest.approx(other.loss, rel=1e-3)
