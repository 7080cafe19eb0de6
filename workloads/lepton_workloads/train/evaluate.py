"""How good a network is on a split of the dataset: the figures of a version, and of a fold of a cross-validation."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.outcome import Epoch, FoldResult
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.train.data import Dataset
from lepton_workloads.train.export import rebuild
from lepton_workloads.train.judge.figures import Evaluation, Labels, Probabilities, evaluate
from lepton_workloads.train.losses import picture_losses
from lepton_workloads.train.predict import predict

if TYPE_CHECKING:
    from lepton_workloads.train.loop import Trained


class FoldMetrics(Record):
    """All figures of one fold: what is kept beside the checkpoints, while the status holds `result` alone."""

    version: int = 1
    labels: list[str]
    held_out: Evaluation
    history: list[Epoch]
    result: FoldResult


def judge(
    model: Any, task: TrainTask, dataset: Dataset, name: SplitName
) -> tuple[Evaluation, Probabilities, Labels]:
    """The figures of a split, and what they were made from: probabilities (N, classes) and true classes (N,).

    Raises:
        WorkloadError: Diverged, when the network answers with what is no number.
    """
    split = dataset.splits[name]
    probabilities = predict(model, split, dataset.manifest.normalization)
    losses = picture_losses(task.training, probabilities.shape[1])(split.labels, probabilities)
    figures = evaluate(probabilities, split.labels, task.top_k, np.asarray(losses))
    return figures, probabilities, split.labels


def fold_metrics(task: TrainTask, dataset: Dataset, trained: "Trained") -> FoldMetrics:
    """Judge the network of a fold on the part that was held out: the validation split of the fold's dataset.

    Raises:
        WorkloadError: Diverged.
        ValueError: the task is no fold.
    """
    if task.fold is None:
        raise ValueError("only a fold has a part that is held out")
    manifest = dataset.manifest
    model = rebuild(trained.model, task.network, manifest.picture, len(manifest.labels))
    figures, _, _ = judge(model, task, dataset, SplitName.VALIDATION)
    result = FoldResult(
        fold=task.fold.index,
        samples=figures.samples,
        accuracy=figures.accuracy,
        loss=figures.loss,
        f1=figures.f1,
        epochs=trained.history[-1].epoch,
        seconds=trained.seconds,
    )
    return FoldMetrics(labels=manifest.labels, held_out=figures, history=trained.history, result=result)
