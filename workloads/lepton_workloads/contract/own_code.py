"""Own code: what a program of the user's finds in its pod, and the files by which it speaks.

docs/own-code.md is the same in words, for those who write such programs.
"""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.judgement import Gate
from lepton_workloads.contract.network import OwnCode
from lepton_workloads.contract.outcome import (
    MAX_HISTORY,
    Count,
    Digest,
    Epoch,
    EpochCount,
    ShortText,
)
from lepton_workloads.contract.training import Training

# The containers of its pod.
REPORT_CONTAINER = "report"
CHECK_CONTAINER = "check"
OWN_CONTAINER = "train"
PUBLISH_CONTAINER = "publish"

# Where its folders are.
OUTPUT_DIR = PurePosixPath("/lepton/output")
"""Read-write: what becomes the version; an emptyDir, since only `publish` may write among the versions."""
PROGRESS_DIR = PurePosixPath("/lepton/progress")
"""Read-write: an emptyDir that the report's container reads."""
PROGRESS_FILE = "progress.json"
PUBLISHED_FILE = "published"
"""In PROGRESS_DIR, written by `check`: an earlier pod has published; the program may end at once."""
OWN_CHECKPOINTS = "own"
"""Folder of its checkpoints below the job's: Lepton's notes beside it are out of its reach."""

# Its environment, besides LEPTON_THREADS, LEPTON_POD_NAME, LEPTON_POD_UID and, in a gang, TF_CONFIG.
JOB_ENV = "LEPTON_JOB"
JOB_UID_ENV = "LEPTON_JOB_UID"
ATTEMPT_ENV = "LEPTON_ATTEMPT"
WORKER_INDEX_ENV = "LEPTON_WORKER_INDEX"
WORKERS_ENV = "LEPTON_WORKERS"
PEERS_ENV = "LEPTON_PEERS"
STARTUP_DEADLINE_ENV = "LEPTON_STARTUP_DEADLINE_SECONDS"
DATASET_ENV = "LEPTON_DATASET"
DATASET_KEY_ENV = "LEPTON_DATASET_KEY"
DATASET_DIR_ENV = "LEPTON_DATASET_DIR"
CHECKPOINTS_DIR_ENV = "LEPTON_CHECKPOINTS_DIR"
OUTPUT_DIR_ENV = "LEPTON_OUTPUT_DIR"
PROGRESS_FILE_ENV = "LEPTON_PROGRESS_FILE"
PUBLISHED_FILE_ENV = "LEPTON_PUBLISHED_FILE"
ERROR_FILE_ENV = "LEPTON_ERROR_FILE"
TRAINING_ENV = "LEPTON_TRAINING"
SEED_ENV = "LEPTON_SEED"

RESULT_FILE = "result.json"
MAX_FILE_BYTES = 64 * 1024
"""Of progress.json and result.json."""
MAX_FILES = 10_000
"""Files and folders in the output."""
MAX_OUTPUT_BYTES = 4 * 1024**3

Figure = float | None
Phase = Annotated[str, Field(pattern="^[A-Z][A-Za-z ]{0,39}$")]


class OwnProgress(Record):
    """`progress.json`: where the program stands; all fields may be left out."""

    phase: Phase = "Training"
    epoch: EpochCount = Field(0, description="Finished epochs.")
    epochs: EpochCount | None = Field(None, description="Epochs to train; left out: training.epochs.")
    step: Count = Field(0, description="Steps done in the running epoch.")
    steps: Count = Field(0, description="Steps of an epoch.")
    loss: Figure = None
    accuracy: Figure = None
    images_per_second: Figure = None
    learning_rate: Figure = None
    images: Count = Field(0, description="Pictures trained since the program's start.")
    eta_seconds: Annotated[float, Field(ge=0, le=1e9)] | None = None
    history: Annotated[list[Epoch], Field(max_length=MAX_HISTORY)] = Field(
        [], description="The last finished epochs."
    )


class LabelFigures(Record):
    """Figures of one class of the test split."""

    precision: Figure = None
    recall: Figure = None
    f1: Figure = None


class OwnResult(Record):
    """`result.json`: what the chief's program found out about its network."""

    test_accuracy: float
    test_loss: float
    train_accuracy: float
    train_loss: float
    epochs: EpochCount
    validation_accuracy: Figure = None
    validation_loss: Figure = None
    precision: Figure = None
    recall: Figure = None
    f1: Figure = None
    top_k_accuracy: Figure = None
    expected_calibration_error: Figure = None
    per_label: dict[str, LabelFigures] = {}
    best_epoch: EpochCount | None = None
    stopped_early: bool = False
    seconds: Annotated[float, Field(ge=0)] = 0.0
    parameters: Count = 0
    weights_digest: Digest | None = Field(None, description="Left out: of all files of the output.")
    code_version: ShortText = "unknown"
    python: ShortText = "unknown"
    tensorflow: ShortText = "unknown"
    keras: ShortText = "unknown"

    def figure(self, gate: Gate) -> float | None:
        """What the gate asks for; None when the result doesn't say."""
        if gate.label is not None:
            figures = self.per_label.get(gate.label, LabelFigures()).to_json_dict()
        else:
            figures = self.to_json_dict()
        value = figures.get({"accuracy": "testAccuracy", "loss": "testLoss"}.get(gate.metric, gate.metric))
        return None if value is None else float(value)


class OwnCodeTask(Record):
    """Of Lepton's containers in the pod: `python -m lepton_workloads.own.check`, `.report`, `.publish`."""

    job: str = Field(description="namespace/name of the LeptonTrainingJob.")
    job_uid: str
    attempt: int = Field(ge=1)
    workers: int = Field(ge=1)
    dataset_name: str
    dataset_key: str
    code: OwnCode
    training: Training = Training()
    gate: Gate | None = None
