"""`metrics.json`: all figures of a version; the status holds only the few that people sort by."""

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.train.judge.figures import Evaluation


class Quantization(Record):
    """The 8-bit version beside the 32-bit one, as in `metrics.json`."""

    split: SplitName
    """Pictures that both were judged on."""
    samples: int
    float_accuracy: float
    """Of `model.tflite`."""
    int8_accuracy: float | None = None
    """Of `model.int8.tflite`; None when there is none."""
    agreement: float | None = None
    """Share of pictures that both take for the same class."""
    largest_difference: float | None = None
    """Of a probability."""
    error: str | None = None
    """Why there is no `model.int8.tflite`."""


class Metrics(Record):
    """How good a version is and how it became so."""

    version: int = 1
    labels: list[str]
    test: Evaluation
    validation: Evaluation | None = None
    gate_value: float | None = None
    """Figure of the test split that the gate asked for."""
    parameters: int
    seconds: float
    """Wall time of the training loop, of the last attempt."""
    best_epoch: int | None = None
    """Epoch whose weights the version has (1-based)."""
    stopped_early: bool = False
    litert_difference: float
    """Largest difference of a probability between model.tflite and Keras."""
    quantization: Quantization
    history: list[Epoch]
