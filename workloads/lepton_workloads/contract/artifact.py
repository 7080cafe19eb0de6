"""A model version on disk: `models/<digest>`, appears by one rename, never changes.

Files:

- `model.keras`, `saved_model/`: for Keras and TensorFlow.
- `model.tflite`: what is served, float32; `model.int8.tflite`: the same in 8 bits, where the network can be converted.
- `signature.json`: a `Signature`; `lineage.json`: a `Lineage`; `metrics.json`: all figures of the judgement.
- `explain.npz`: what class activation maps need beside the outputs of `model.tflite` (`lepton_workloads.explain`).
- `reference.json`: a `Reference`, what the data looked like, to notice when requests look different.
- `report.html`: all of it for people. `tensorboard/`: the history for TensorBoard.
- `SHA256SUMS`: as `sha256sum` writes it, sorted by path, over all other files. The digest is its sha256.
"""

from typing import Literal

from pydantic import Field

from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import Normalization, Picture, SplitName

KERAS_FILE = "model.keras"
SAVED_MODEL_DIR = "saved_model"
LITERT_FILE = "model.tflite"
INT8_FILE = "model.int8.tflite"
EXPLAIN_FILE = "explain.npz"
REFERENCE_FILE = "reference.json"
REPORT_FILE = "report.html"
TENSORBOARD_DIR = "tensorboard"
SIGNATURE_FILE = "signature.json"
METRICS_FILE = "metrics.json"
LINEAGE_FILE = "lineage.json"
CHECKSUMS_FILE = "SHA256SUMS"
SERVING_FILES = (SIGNATURE_FILE, METRICS_FILE, LINEAGE_FILE, REFERENCE_FILE, EXPLAIN_FILE)
"""What every server reads beside its engine's files; the last two may be missing in versions made by own code."""


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


class Histogram(Record):
    """How often values fell where, by bins that hold equal shares of the reference's own values."""

    edges: list[float] = Field(
        description="Inner edges, ascending: bin i holds edges[i-1] <= value < edges[i]."
    )
    shares: list[float] = Field(description="Share of the pictures in each bin, one more than edges.")


class Reference(Record):
    """`reference.json`: what pictures and answers look like when all is well (`lepton_workloads.drift`).

    Ten bins each; fewer where many pictures have the same value.
    """

    version: Literal[1] = 1
    split: SplitName = Field(description="Whose pictures they are.")
    samples: int
    channel_means: list[Histogram] = Field(description="Mean of each channel in a picture, 0 to 255.")
    brightness: Histogram = Field(description="Mean of all values in a picture, 0 to 255.")
    contrast: Histogram = Field(description="Standard deviation of all values in a picture.")
    predicted: list[float] = Field(
        description="Share of each class among the predictions, by the labels' order."
    )
    confidence: Histogram = Field(description="Probability of the predicted class.")
