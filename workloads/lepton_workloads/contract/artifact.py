"""A model version on disk: `models/<digest>`, appears by one rename, never changes.

Files: `model.keras`, `saved_model/`, `model.tflite`, `signature.json`, `metrics.json`, `lineage.json`,
`SHA256SUMS` (as `sha256sum` writes it, sorted by path, over all other files). The digest is the sha256 of
`SHA256SUMS`.
"""

from typing import Literal

from pydantic import Field

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import Normalization, Picture

KERAS_FILE = "model.keras"
SAVED_MODEL_DIR = "saved_model"
LITERT_FILE = "model.tflite"
SIGNATURE_FILE = "signature.json"
METRICS_FILE = "metrics.json"
LINEAGE_FILE = "lineage.json"
CHECKSUMS_FILE = "SHA256SUMS"
SERVING_FILES = (LITERT_FILE, SIGNATURE_FILE, METRICS_FILE, LINEAGE_FILE)
"""What the server needs; `fetch` copies and checks only these (and SHA256SUMS)."""


class Tensor(Record):
    """An input or output of the network; -1 stands for the batch."""

    name: str
    dtype: Literal["float32"] = "float32"
    shape: list[int]


class Preprocessing(Record):
    """How a picture file becomes the network's input: decode, fit, then pixel * scale + offset."""

    picture: Picture
    normalization: Normalization
    decoder: str = Field(description="Decoder that prepared the training data.")


class Signature(Record):
    """`signature.json`: how the version is called. Serving follows it, so it cannot disagree with training."""

    version: Literal[1] = 1
    inputs: list[Tensor]
    outputs: list[Tensor]
    labels: list[str]
    preprocessing: Preprocessing


class Lineage(Record):
    """`lineage.json`: where the version comes from, complete enough to make it again."""

    version: Literal[1] = 1
    job: str
    job_uid: str
    attempt: int
    dataset: str
    dataset_key: str
    image: str
    code_version: str
    seed: int
    workers: int
    threads: int
    cpu: str
    python: str
    tensorflow: str
    keras: str
    network: dict[str, object]
    training: dict[str, object]
    warm_start: str | None = Field(None, description="Digest of the version whose weights it began with.")
    resumed_from: str | None = Field(None, description="Checkpoint that the last attempt went on from.")
    weights_digest: str
    started: str = Field(description="RFC 3339, UTC.")
    finished: str
