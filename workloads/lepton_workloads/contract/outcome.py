"""What a container says: exit code, termination message, report.

The termination message is one JSON line of at most 3 KiB (Kubernetes keeps 4,096 bytes) in
`TERMINATION_FILE`; a container that dies without writing it leaves its last log lines there
(`terminationMessagePolicy: FallbackToLogsOnError`).
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from lepton_workloads.contract.base import Record

TERMINATION_FILE = "/dev/termination-log"
MAX_MESSAGE_BYTES = 3072
MAX_HISTORY = 32
"""Epochs in a report, so that a pull every 10 s misses none."""

EXIT_RETRY = 1
"""Something outside broke (network, disk): another try may succeed."""
EXIT_TERMINAL = 3
"""The input or the spec is wrong: trying again gives the same end."""


class Failure(StrEnum):
    """Reasons a container names; the same words stand in conditions and Events."""

    INVALID_DATA = "InvalidData"
    INVALID_SPEC = "InvalidSpec"
    SOURCE_NOT_FOUND = "SourceNotFound"
    DATASET_NOT_READY = "DatasetNotReady"
    PEERS_NOT_READY = "PeersNotReady"
    DIVERGED = "Diverged"
    EXPORT_FAILED = "ExportFailed"
    STORAGE_FAILED = "StorageFailed"
    DOWNLOAD_FAILED = "DownloadFailed"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    QUANTIZATION_GATE_NOT_PASSED = "QuantizationGateNotPassed"
    INTERNAL_ERROR = "InternalError"


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""sha256 in hex; it becomes part of paths, so nothing else is believed."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""What JSON holds exactly, everywhere."""
EpochCount = Annotated[int, Field(ge=0, le=10**9)]
ShortText = Annotated[str, Field(max_length=64)]


class PrepareResult(Record):
    """Result of index 0 of a preparation; other indexes leave an empty outcome."""

    key: Digest
    samples: Count
    classes: Count
    labels: list[Annotated[str, Field(max_length=40)]] = Field(
        max_length=64, description="The first 64 labels."
    )
    train: Count
    validation: Count
    test: Count
    invalid_files: Count
    reused: bool = Field(description="The prepared copy was there already: no work was done.")
    height: Count
    width: Count
    channels: Count
    bytes: Count


class TrainResult(Record):
    """Result of the chief; scalars only, everything else is in the artifact's metrics.json."""

    digest: Digest = Field(description="sha256 of SHA256SUMS: the model version.")
    weights_digest: Digest
    test_accuracy: float
    test_loss: float
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    train_accuracy: float
    train_loss: float
    precision: float | None = Field(None, description="Mean over the classes of the test split.")
    recall: float | None = Field(None, description="Mean over the classes of the test split.")
    f1: float | None = Field(None, description="Mean over the classes of the test split.")
    top_k_accuracy: float | None = None
    expected_calibration_error: float | None = None
    gate_value: float | None = Field(
        None, description="Figure that the task's gate asks for; absent: the training can't know it."
    )
    int8_accuracy: float | None = Field(
        None,
        description="Accuracy of the 8-bit version, on the validation split where there is one, else test.",
    )
    float_accuracy: float | None = Field(None, description="Accuracy of model.tflite on the same pictures.")
    epochs: EpochCount = Field(description="Epochs trained.")
    best_epoch: EpochCount | None = Field(None, description="Epoch whose weights the version has (1-based).")
    stopped_early: bool = False
    seconds: float = Field(description="Wall time of the training loop, of the last attempt.")
    parameters: Count
    bytes: Count = Field(description="Size of the artifact.")
    code_version: ShortText
    tensorflow: ShortText
    recovered: bool = Field(False, description="The artifact was there already; only the report was lost.")


class FoldResult(Record):
    """Result of one fold of a cross-validation, on its held-out part."""

    fold: Count
    samples: Count
    accuracy: float
    loss: float
    f1: float | None = Field(None, description="Mean over the classes.")
    epochs: EpochCount
    seconds: float


class Outcome(Record):
    """The termination message. `reason` and `message` are set exactly when the container failed."""

    version: Literal[1] = 1
    reason: str | None = None
    message: Annotated[str, Field(max_length=1500)] | None = None
    terminal: bool = Field(False, description="True when another try would give the same end.")
    prepare: PrepareResult | None = None
    train: TrainResult | None = None
    fold: FoldResult | None = None


class Epoch(Record):
    """Figures of one finished epoch (1-based)."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    seconds: float
    images_per_second: float
    learning_rate: float | None = Field(None, description="At the end of the epoch.")


class DriftFigures(Record):
    """What a serving pod sees of drift; population stability indexes against the version's reference."""

    samples: Count = Field(description="Predictions in the window; below its size nothing is judged.")
    drifting: bool = Field(
        description="The threshold was passed in three windows in a row, and is not over yet."
    )
    indexes: dict[ShortText, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        {},
        max_length=16,
        description="By what is compared: brightness, contrast, confidence, predicted, channel_0...",
    )


class Report(Record):
    """`GET /report`: where the container stands."""

    owner_uid: str = Field(description="uid of the LeptonDataset, LeptonTrainingJob or LeptonModel.")
    attempt: int = 1
    index: int = 0
    phase: Annotated[str, Field(max_length=40)] = Field(
        "Starting",
        description="Starting, Waiting, Loading, Preparing, Training, Evaluating, Exporting, Quantizing, Reporting, "
        "Done; Serving.",
    )
    done: Count = Field(0, description="Files prepared, or steps of the running epoch.")
    total: Count = 0
    epoch: EpochCount = Field(0, description="Finished epochs.")
    epochs: EpochCount = 0
    loss: float | None = Field(None, description="Mean loss of the running or last epoch.")
    accuracy: float | None = None
    images_per_second: float | None = None
    learning_rate: float | None = None
    images: Count = Field(0, description="Pictures trained by the whole gang since the pod's start.")
    resume: Annotated[str, Field(max_length=256)] | None = Field(
        None,
        description="The chief's choice: a checkpoint to go on from, empty for none; absent: not chosen yet.",
    )
    eta_seconds: Annotated[float, Field(ge=0, le=1e9)] | None = None
    history: Annotated[list[Epoch], Field(max_length=MAX_HISTORY)] = []
    drift: DriftFigures | None = Field(None, description="Of a serving pod that watches for it.")


def parse_outcome(text: str | None) -> Outcome | None:
    """The outcome in a termination message, or None when there is none (log lines, nothing, nonsense)."""
    if not text:
        return None
    try:
        return Outcome.model_validate_json(text.strip().splitlines()[-1])
    except (ValidationError, IndexError):
        return None


def parse_report(data: Any) -> Report | None:
    """A report from outside, or None when it isn't one; pods are not trusted."""
    try:
        return Report.model_validate(data)
    except ValidationError:
        return None
