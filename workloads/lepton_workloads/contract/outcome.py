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
    epochs: EpochCount
    seconds: float = Field(description="Wall time of the training loop.")
    parameters: Count
    bytes: Count = Field(description="Size of the artifact.")
    code_version: ShortText
    tensorflow: ShortText
    recovered: bool = Field(False, description="The artifact was there already; only the report was lost.")


class Outcome(Record):
    """The termination message. `reason` and `message` are set exactly when the container failed."""

    version: Literal[1] = 1
    reason: str | None = None
    message: Annotated[str, Field(max_length=1500)] | None = None
    terminal: bool = Field(False, description="True when another try would give the same end.")
    prepare: PrepareResult | None = None
    train: TrainResult | None = None


class Epoch(Record):
    """Figures of one finished epoch (1-based)."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    seconds: float
    images_per_second: float


class Report(Record):
    """`GET /report`: where the container stands."""

    owner_uid: str = Field(description="uid of the LeptonDataset or LeptonTrainingJob.")
    attempt: int = 1
    index: int = 0
    phase: Annotated[str, Field(max_length=40)] = Field(
        "Starting",
        description="Starting, Waiting, Loading, Preparing, Training, Evaluating, Exporting, Done.",
    )
    done: Count = Field(0, description="Files prepared, or steps of the running epoch.")
    total: Count = 0
    epoch: EpochCount = Field(0, description="Finished epochs.")
    epochs: EpochCount = 0
    loss: float | None = Field(None, description="Mean loss of the running or last epoch.")
    accuracy: float | None = None
    images_per_second: float | None = None
    eta_seconds: Annotated[float, Field(ge=0, le=1e9)] | None = None
    history: Annotated[list[Epoch], Field(max_length=MAX_HISTORY)] = []


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
