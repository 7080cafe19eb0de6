"""What a container is told: its task in one environment variable, its volumes at fixed places.

Renames must not cross mounts (rename(2) fails with EXDEV between bind mounts, even of one file
system), so everything temporary lies beside its final place: `datasets/.tmp-*`, `models/.tmp-*`.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from lepton_workloads.contract.base import CONTROL, SUBDOMAIN, Record
from lepton_workloads.contract.data import Normalization, Picture, Split
from lepton_workloads.contract.judgement import CheckpointSpec, CrossValidation, Gate
from lepton_workloads.contract.network import Cnn
from lepton_workloads.contract.serving import Alarm, Drift, EngineName, Precision, RequestLog
from lepton_workloads.contract.training import Training

TASK_ENV = "LEPTON_TASK"
"""JSON of the container's task."""
INDEX_ENV = "JOB_COMPLETION_INDEX"
"""Set by Kubernetes in each pod of an Indexed Job: 0 is the chief."""
POD_UID_ENV = "LEPTON_POD_UID"
POD_NAME_ENV = "LEPTON_POD_NAME"
THREADS_ENV = "LEPTON_THREADS"
"""ceil(limits.cpu, else requests.cpu, else 1): what thread pools are sized by."""

REPORT_PORT = 9090
"""Every training and preparing container serves `GET /report` (a `Report`) and `GET /healthz` here; a server
`GET /report` and `GET /metrics`, always plain HTTP and without a token."""
GANG_PORT = 2222
"""TensorFlow's own port between the workers of a gang."""
HTTP_PORT = 8080
"""The server's port: predictions, health, metrics."""
GRPC_PORT = 8081
"""The server's port of gRPC, where that is wanted."""

# Where volumes are mounted.
SOURCE_DIR = PurePosixPath("/lepton/source")
"""Read-only: the user's claim with raw data (preparing) or an artifact (fetching)."""
DATASETS_DIR = PurePosixPath("/lepton/datasets")
"""Read-write, preparing only: sub-path `datasets` of the store."""
DATASET_DIR = PurePosixPath("/lepton/dataset")
"""Read-only, training only: sub-path `datasets/<key>` of the store."""
MODELS_DIR = PurePosixPath("/lepton/models")
"""Read-write, training only: sub-path `models` of the store."""
CHECKPOINTS_DIR = PurePosixPath("/lepton/checkpoints")
"""Read-write, training only: sub-path `checkpoints/<job uid>` of the store."""
MODEL_DIR = PurePosixPath("/lepton/model")
"""The fetched artifact: an emptyDir, written by `fetch`, read-only for the server."""
TOKENS_DIR = PurePosixPath("/lepton/tokens")
"""Read-only: the Secret whose every value is a bearer token that opens the server."""
TLS_DIR = PurePosixPath("/lepton/tls")
"""Read-only: a Secret of type kubernetes.io/tls."""
REQUESTS_DIR = PurePosixPath("/lepton/requests")
"""Read-write: the folder of a claim where requests are kept."""
SCRATCH_DIR = PurePosixPath("/tmp")
"""The only other writable folder: an emptyDir with a size limit."""


class PvcFolder(Record):
    """A folder on a PersistentVolumeClaim of the same namespace."""

    claim_name: Annotated[
        str,
        Field(
            min_length=1, max_length=253, description="Name of a PersistentVolumeClaim in the same namespace."
        ),
    ]
    path: Annotated[
        str,
        Field(
            max_length=1024,
            description="Folder on the claim, relative to its root; empty for the root itself.",
        ),
    ] = ""

    cel_rules = (
        (
            "!self.path.startsWith('/') && !self.path.split('/').exists(p, p == '..')",
            "path is relative to the claim's root and must not hold '..': write for example photos/2026",
        ),
        (
            f"!self.path.matches('{CONTROL}')",
            "path must hold no control characters, such as line breaks: write it on one line",
        ),
        (
            f"self.claimName.matches('{SUBDOMAIN}')",
            "no claim has such a claimName: write letters a-z, digits, '-' and '.', for example photos",
        ),
    )


class PrepareTask(Record):
    """`python -m lepton_workloads.prepare`: raw pictures -> `datasets/<key>`, by `parallelism` indexes."""

    dataset: str = Field(description="namespace/name, for logs.")
    dataset_uid: str
    job_key: str = Field(description="Name of the child Job: one temporary folder for all its indexes.")
    builtin: Literal["digits"] | None = None
    source_path: str | None = Field(None, description="Folder below SOURCE_DIR; None for built-in data.")
    picture: Picture = Picture()
    normalization: Normalization = Normalization()
    split: Split = Split()
    max_invalid_fraction: float = 0.01
    parallelism: int = 1
    peer_deadline_seconds: int = Field(600, description="How long index 0 waits for the other indexes.")


class Fold(Record):
    """One fold of a cross-validation: its part is held out, all other parts of train + validation are trained on."""

    index: int = Field(ge=0, description="Of the part that is held out.")
    folds: int = Field(ge=2)


class WarmStart(Record):
    """Weights to begin with, from an earlier version in the same store."""

    digest: str = Field(pattern="^[0-9a-f]{64}$", description="The version: `models/<digest>`.")
    frozen_layers: list[str] = Field(default=[], description="Layers that are not trained, by name.")


class TrainTask(Record):
    """`python -m lepton_workloads.train`: `DATASET_DIR` -> `models/<digest>`, by a gang of `workers`.

    With `fold` no version is made: the result is that of the held-out part.
    """

    job: str = Field(description="namespace/name of the LeptonTrainingJob.")
    job_uid: str
    attempt: int = Field(ge=1)
    workers: int = Field(ge=1)
    peers: list[str] = Field(description="DNS name of each worker's pod, in the order of the index.")
    dataset_name: str
    dataset_key: str
    network: Cnn = Cnn()
    training: Training = Training()
    checkpoint: CheckpointSpec = CheckpointSpec()
    top_k: int = 5
    gate: Gate | None = Field(None, description="Its figure is part of the result; the operator decides.")
    cross_validation: CrossValidation | None = Field(
        None, description="What follows this training; its report says so, and how to run all of it again."
    )
    fold: Fold | None = None
    warm_start: WarmStart | None = None
    startup_deadline_seconds: int = Field(600, description="How long the start gate waits for all peers.")
    image: str = Field(description="The trainer image, for the lineage.")

    @property
    def state_folder(self) -> str:
        """Folder of this task's checkpoints and notes below CHECKPOINTS_DIR: `.` or `folds/<index>`."""
        return f"folds/{self.fold.index}" if self.fold else "."


class FetchTask(Record):
    """`python -m lepton_workloads.fetch`: an artifact -> `MODEL_DIR`, checked. Exactly one of the sources."""

    path: str | None = Field(None, description="Folder below SOURCE_DIR that holds the artifact.")
    url: str | None = Field(None, description="http(s) address of a .tar or .tar.gz of the artifact.")
    sha256: str | None = Field(
        None, description="Of SHA256SUMS (the artifact's digest) for a path, of the archive for a URL."
    )
    max_bytes: int = Field(2 * 1024**3, description="Refused above this size, packed or unpacked.")
    engine: EngineName = Field("litert", description="Whose files are fetched.")
    precision: Precision = "float32"
    max_accuracy_drop: float = Field(
        0.005, description="With int8: how much less accurate than float32 the 8-bit network may be."
    )


class ServeTask(Record):
    """`python -m lepton_workloads.serve`: answers predictions for the artifact in `MODEL_DIR`."""

    name: str = Field(description="The model's name in the REST paths: the LeptonModel's name.")
    namespace: str = Field("default", description="Of the LeptonModel, for events.")
    owner_uid: str = Field("", description="uid of the LeptonModel, for the report.")
    version: str = Field(description="First 12 hex digits of the version's digest.")
    engine: EngineName = "litert"
    precision: Precision = "float32"
    grpc: bool = Field(False, description="Also listen at GRPC_PORT.")
    tokens: bool = Field(False, description="A bearer token of TOKENS_DIR is needed.")
    tls: bool = Field(False, description="HTTP and gRPC with the certificate in TLS_DIR.")
    timeout_seconds: float = Field(
        10.0, gt=0, description="A request that waits longer for the engine is given up."
    )
    max_request_bytes: int = 16 * 1024**2
    drain_seconds: int = Field(10, description="How long requests in flight may take after SIGTERM.")
    alarms: list[Alarm] = []
    drift: Drift | None = None
    request_log: RequestLog | None = None

    @property
    def version_number(self) -> int:
        """The version as TensorFlow Serving counts: a positive integer (48 bits of the digest)."""
        return int(self.version, 16)
