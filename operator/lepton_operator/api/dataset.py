"""LeptonDataset: where raw data is, how it becomes pictures of one size, how it is split."""

from typing import Annotated, Literal

from pydantic import Field

from lepton_operator.api.common import Resources, StartupDeadline, Status, Storage
from lepton_operator.api.kind import AGE, Column, Kind, condition_column
from lepton_operator.api.pod_template import PodTemplate
from lepton_workloads.contract.base import Record
from lepton_workloads.contract.data import Normalization, Picture, Split
from lepton_workloads.contract.tasks import PvcFolder


class DatasetSource(Record):
    """Where the raw data is: exactly one of the fields."""

    builtin: Annotated[
        Literal["digits"] | None,
        Field(
            description="A data set that comes with Lepton: `digits`, 1,797 real handwritten digits (UCI)."
        ),
    ] = None
    pvc: Annotated[
        PvcFolder | None,
        Field(description="A folder on a PersistentVolumeClaim; it is mounted read-only."),
    ] = None

    cel_rules = (
        (
            "has(self.builtin) != has(self.pvc)",
            "set exactly one of source.builtin and source.pvc, for example source: {builtin: digits}",
        ),
    )


class DatasetSpec(Record):
    """The wanted dataset. A change prepares a new copy; earlier copies stay for the jobs that used them."""

    source: Annotated[DatasetSource, Field(description="Where the raw data is.")]
    format: Annotated[
        Literal["imageFolder"],
        Field(description="imageFolder: one folder a class, whose name is the label, with pictures in it."),
    ] = "imageFolder"
    image: Annotated[Picture, Field(description="Size and form of the prepared pictures.")] = Picture()
    normalization: Annotated[
        Normalization,
        Field(description="value = pixel * scale + offset; recorded, applied when the data is read."),
    ] = Normalization()
    split: Annotated[
        Split, Field(description="Shares of training, validation and test; they add up to 1.")
    ] = Split()
    max_invalid_fraction: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of files that may be unreadable; they are set aside and counted. More: "
            "InvalidData.",
        ),
    ] = 0.01
    parallelism: Annotated[int, Field(ge=1, le=64, description="Pods that prepare side by side.")] = 1
    revision: Annotated[
        str,
        Field(
            max_length=253,
            description="Any text. Raw data is read again when it changes: a dataset is a snapshot.",
        ),
    ] = ""
    storage: Annotated[Storage, Field(description="Where the prepared copy is kept.")] = Storage()
    resources: Annotated[
        Resources,
        Field(description="Resources of each preparing pod; left out: requests of 200m CPU, 256Mi memory."),
    ] = Resources()
    pod_template: Annotated[PodTemplate, Field(description="Additions to the preparing pods.")] = (
        PodTemplate()
    )
    startup_deadline_seconds: StartupDeadline = 600
    active_deadline_seconds: Annotated[
        int | None,
        Field(ge=1, le=31_536_000, description="Longest time the preparation may take, in seconds."),
    ] = None
    backoff_limit: Annotated[
        int, Field(ge=0, le=100, description="Failed pods that are tried again before giving up.")
    ] = 3

    @property
    def pod_resources(self) -> Resources:
        """Of each preparing pod."""
        return self.resources.or_else(Resources(requests={"cpu": "200m", "memory": "256Mi"}))


class DatasetSplits(Record):
    """Samples of each split."""

    train: Annotated[int, Field(description="Samples of the training split.")]
    validation: Annotated[int, Field(description="Samples of the validation split.")]
    test: Annotated[int, Field(description="Samples of the test split.")]


class DatasetProgress(Record):
    """Where the running preparation stands."""

    phase: Annotated[str, Field(max_length=40, description="What is being done.")]
    done: Annotated[int, Field(description="Files done.")] = 0
    total: Annotated[int, Field(description="Files in all; 0 until they are counted.")] = 0
    percent: Annotated[str, Field(max_length=8, description="done / total, for example 40%.")]


class DatasetStatus(Status):
    """The state of the dataset."""

    digest: Annotated[
        str | None, Field(max_length=64, description="Content address of the prepared copy (sha256).")
    ] = None
    spec_hash: Annotated[
        str | None, Field(max_length=16, description="Hash of the spec parts that the copy was made from.")
    ] = None
    claim_name: Annotated[
        str | None, Field(max_length=253, description="Claim that holds the prepared copy.")
    ] = None
    samples: Annotated[int | None, Field(description="Pictures in all splits.")] = None
    classes: Annotated[int | None, Field(description="Number of classes.")] = None
    labels: Annotated[
        list[str] | None, Field(max_length=64, description="Names of the classes; the first 64 of them.")
    ] = None
    splits: Annotated[DatasetSplits | None, Field(description="Samples of each split.")] = None
    invalid_files: Annotated[int | None, Field(description="Files set aside as unreadable.")] = None
    bytes: Annotated[int | None, Field(description="Size of the prepared copy.")] = None
    job_name: Annotated[str | None, Field(max_length=63, description="The child Job of this spec.")] = None
    waiting_since: Annotated[
        str | None,
        Field(json_schema_extra={"format": "date-time"}, description="When the current waiting began."),
    ] = None
    progress: Annotated[
        DatasetProgress | None, Field(description="Where the running preparation stands.")
    ] = None


DATASET = Kind(
    name="LeptonDataset",
    plural="leptondatasets",
    singular="leptondataset",
    short="lds",
    description="Raw data, prepared: decoded, resized, split and kept as an immutable, content-addressed "
    "copy.",
    spec=DatasetSpec,
    status=DatasetStatus,
    columns=(
        condition_column("Ready", "Ready", "status", "Whether the prepared copy is there."),
        condition_column("Reason", "Ready", "reason", "Why."),
        Column("Samples", "integer", ".status.samples", "Pictures in all splits."),
        Column("Classes", "integer", ".status.classes", "Number of classes."),
        Column("Progress", "string", ".status.progress.percent", "Share of the files prepared."),
        AGE,
        Column("Digest", "string", ".status.digest", "Content address of the prepared copy.", 1),
    ),
)
