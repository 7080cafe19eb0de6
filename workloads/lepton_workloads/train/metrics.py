"""`metrics.json`: all figures of a version; the status holds only the few that people sort by."""

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.train.judge.figures import Evaluation
from lepton_workloads.train.quantize import Quantization


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
