"""All figures of one split, and the one that the gate asks for."""

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.judgement import Gate
from lepton_workloads.train.judge.calibration import ReliabilityBin, expected_calibration_error, reliability

SMALLEST = 1e-7
"""As Keras' epsilon: a probability of 0 must not make the loss infinite."""

Probabilities = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


class ClassFigures(Record):
    """Figures of one class; None (absent in JSON) where there is nothing to divide by."""

    samples: int
    """Pictures of this class."""
    predicted: int
    """Pictures that were taken for it."""
    precision: float | None = None
    """Share of right ones among those taken for it; None if none was."""
    recall: float | None = None
    """Share of its pictures that were taken for it; None if the split holds none."""
    f1: float | None = None
    """Harmonic mean of both, 2 TP / (samples + predicted); None if both are 0."""


class Evaluation(Record):
    """Figures of one split, as in `metrics.json`.

    `precision`, `recall` and `f1` are means over the classes that the split holds, each class with the same weight; one
    that is never predicted counts with precision 0.
    """

    samples: int
    loss: float
    accuracy: float
    top_k: int
    top_k_accuracy: float
    precision: float
    recall: float
    f1: float
    expected_calibration_error: float
    per_class: list[ClassFigures]
    """In the order of the labels."""
    confusion_matrix: list[list[int]]
    """[true class][predicted class] -> samples."""
    reliability: list[ReliabilityBin]


def evaluate(
    probabilities: Probabilities,
    labels: Labels,
    top_k: int = 5,
    losses: npt.NDArray[np.float32] | None = None,
) -> Evaluation:
    """Judge probabilities (N, classes) against the true classes (N,); N > 0.

    Args:
        top_k: k of the top-k accuracy; the number of classes where there are fewer.
        losses: (N,), the training's loss of each picture; the cross-entropy if not given.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    per_class = [_of_class(confusion, number) for number in range(classes)]
    present = [figures for figures in per_class if figures.samples]
    hits = predicted == labels
    bins = reliability(probabilities.max(axis=1).astype(np.float64), hits)
    k = min(top_k, classes)
    return Evaluation(
        samples=len(labels),
        loss=float(
            np.mean(cross_entropies(probabilities, labels) if losses is None else losses, dtype=float)
        ),
        accuracy=float(hits.mean()),
        top_k=k,
        top_k_accuracy=float((ranks(probabilities, labels) < k).mean()),
        precision=_mean([figures.precision for figures in present]),
        recall=_mean([figures.recall for figures in present]),
        f1=_mean([figures.f1 for figures in present]),
        expected_calibration_error=expected_calibration_error(bins),
        per_class=per_class,
        confusion_matrix=confusion.tolist(),
        reliability=bins,
    )


def cross_entropies(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.float64]:
    """(N,): minus the logarithm of each true class's probability."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    found: npt.NDArray[np.float64] = -np.log(np.clip(true, SMALLEST, 1))
    return found


def ranks(probabilities: Probabilities, labels: Labels) -> npt.NDArray[np.int64]:
    """(N,): how many classes come before the true one; of equal ones the first, as argmax takes it."""
    true = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    found: npt.NDArray[np.int64] = ((probabilities > true) | ((probabilities == true) & earlier)).sum(axis=1)
    return found


def gate_value(gate: Gate | None, evaluation: Evaluation, labels: list[str]) -> float | None:
    """The figure that the gate asks for.

    None without a gate, for `crossValidationAccuracy`, which is known after the folds, and for a class of which the
    split holds nothing. A class that is never predicted has precision 0 here: it must not pass as unknown.
    """
    if gate is None or gate.metric == "crossValidationAccuracy":
        return None
    if gate.label is not None:
        figures = evaluation.per_class[labels.index(gate.label)]
        if not figures.samples:
            return None
        of_label = {"precision": figures.precision, "recall": figures.recall, "f1": figures.f1}
        return of_label[gate.metric] or 0.0
    return {
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "topKAccuracy": evaluation.top_k_accuracy,
        "precision": evaluation.precision,
        "recall": evaluation.recall,
        "f1": evaluation.f1,
        "expectedCalibrationError": evaluation.expected_calibration_error,
    }[gate.metric]


def _of_class(confusion: npt.NDArray[np.int64], number: int) -> ClassFigures:
    hits = int(confusion[number, number])
    samples, predicted = int(confusion[number].sum()), int(confusion[:, number].sum())
    return ClassFigures(
        samples=samples,
        predicted=predicted,
        precision=hits / predicted if predicted else None,
        recall=hits / samples if samples else None,
        f1=2 * hits / (samples + predicted) if samples + predicted else None,
    )


def _mean(values: list[float | None]) -> float:
    return float(np.mean([value or 0.0 for value in values]))
