"""How good a network is on a split: loss, accuracy, per class, and what is taken for what."""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import Normalization
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.decode import normalize
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.data import SplitData

BATCH = 64
_SMALLEST = 1e-7
"""As Keras' epsilon: a probability of 0 must not make the loss infinite."""


class Evaluation(Record):
    """Figures of one split, as in `metrics.json`."""

    samples: int
    loss: float
    accuracy: float
    per_class_accuracy: list[float | None]
    """Recall of each class, in the order of the labels; None where the split holds none of it."""
    confusion_matrix: list[list[int]]
    """[true class][predicted class] -> samples."""


def predict(model: Any, split: SplitData, normalization: Normalization) -> npt.NDArray[np.float32]:
    """Probabilities (N, classes) of a whole split, in its order.

    Raises:
        WorkloadError: Diverged, when they are no numbers.
    """
    call = tf.function(lambda inputs: model(inputs, training=False))
    results = []
    for batch in split.batches(np.arange(len(split)), min(BATCH, max(len(split), 1))):
        probabilities = call(tf.constant(normalize(batch.images, normalization))).numpy()
        results.append(probabilities[: batch.pictures])
    found = np.concatenate(results)
    if not np.isfinite(found).all():
        text = "the trained network answers with numbers that are not finite: lower the learning rate"
        raise WorkloadError(Failure.DIVERGED, text, terminal=True)
    return found


def evaluate(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]) -> Evaluation:
    """Judge probabilities (N, classes) against the true classes (N,); N > 0."""
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    samples = confusion.sum(axis=1)
    hits = confusion.diagonal()
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return Evaluation(
        samples=len(labels),
        loss=float(-np.log(np.clip(true, _SMALLEST, 1)).mean()),
        accuracy=float(hits.sum() / len(labels)),
        per_class_accuracy=[
            float(hit / count) if count else None for hit, count in zip(hits, samples, strict=True)
        ],
        confusion_matrix=confusion.tolist(),
    )
