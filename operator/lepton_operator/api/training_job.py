"""LeptonTrainingJob: one training of one network on one dataset, ending in an immutable model version."""

from typing import Annotated

from pydantic import Field

from lepton_operator.api.common import LeptonName, Resources, StartupDeadline, Status, Storage
from lepton_operator.api.kind import AGE, Column, Kind, condition_column
from lepton_operator.api.pod_template import PodTemplate
from lepton_workloads.contract.base import Record
from lepton_workloads.contract.network import Cnn, Training

MUTABLE_FIELDS = frozenset({"active_deadline_seconds", "backoff_limit"})


class DatasetReference(Record):
    """A LeptonDataset of the same namespace."""

    name: Annotated[LeptonName, Field(description="Name of a LeptonDataset in the same namespace.")]


class TrainingJobSpec(Record):
    """The wanted training. Fixed once created, apart from its limits: another training is another object."""

    dataset: Annotated[
        DatasetReference, Field(description="The data to train on; the job waits until it is Ready.")
    ]
    network: Annotated[Cnn, Field(description="The network.")] = Cnn()
    training: Annotated[Training, Field(description="Hyper-parameters.")] = Training()
    workers: Annotated[
        int, Field(ge=1, le=64, description="Pods that train together, each on its slice of every batch.")
    ] = 1
    storage: Annotated[Storage, Field(description="Where the model version is kept.")] = Storage()
    resources: Annotated[
        Resources, Field(description="Resources of each worker; left out: requests of 400m CPU, 1Gi memory.")
    ] = Resources()
    pod_template: Annotated[PodTemplate, Field(description="Additions to the workers' pods.")] = PodTemplate()
    backoff_limit: Annotated[
        int, Field(ge=0, le=100, description="Failed attempts before giving up; disruptions don't count.")
    ] = 3
    active_deadline_seconds: Annotated[
        int | None,
        Field(ge=1, le=31_536_000, description="Longest time that all attempts together may take."),
    ] = None
    startup_deadline_seconds: StartupDeadline = 600

    cel_rules = (
        (
            "self.training.batchSize % self.workers == 0",
            "training.batchSize must be a multiple of workers, for example batchSize: 64 with workers: 2",
        ),
    )

    @property
    def pod_resources(self) -> Resources:
        """Of each worker."""
        return self.resources.or_else(Resources(requests={"cpu": "400m", "memory": "1Gi"}))


class TrainingProgress(Record):
    """Where the running attempt stands."""

    phase: Annotated[str, Field(max_length=40, description="What is being done.")]
    epoch: Annotated[str, Field(max_length=24, description="Finished epochs of all, for example 3/5.")]
    step: Annotated[int | None, Field(description="Steps done in the running epoch.")] = None
    steps: Annotated[int | None, Field(description="Steps of an epoch.")] = None
    validation_loss: Annotated[float | None, Field(description="Loss on the validation split.")] = None
    validation_accuracy: Annotated[float | None, Field(description="Accuracy on the validation split.")] = (
        None
    )
    images_per_second: Annotated[float | None, Field(description="Pictures trained a second.")] = None
    eta_seconds: Annotated[int | None, Field(description="Estimated time until the last epoch is done.")] = (
        None
    )


class TrainingResult(Record):
    """The model version that the job made."""

    digest: Annotated[
        str, Field(max_length=64, description="The version: sha256 of the artifact's SHA256SUMS.")
    ]
    weights_digest: Annotated[str, Field(max_length=64, description="sha256 of all weights.")]
    claim_name: Annotated[str, Field(max_length=253, description="Claim that holds the artifact.")]
    path: Annotated[str, Field(max_length=253, description="Folder of the artifact on the claim.")]
    bytes: Annotated[int, Field(description="Size of the artifact.")]
    parameters: Annotated[int, Field(description="Trained parameters of the network.")]


class TrainingMetrics(Record):
    """How good the network is; everything else is in the artifact's metrics.json."""

    test_accuracy: Annotated[float, Field(description="Accuracy on the test split.")]
    test_loss: Annotated[float, Field(description="Loss on the test split.")]
    validation_accuracy: Annotated[float | None, Field(description="Accuracy on the validation split.")] = (
        None
    )
    validation_loss: Annotated[float | None, Field(description="Loss on the validation split.")] = None
    train_accuracy: Annotated[float, Field(description="Accuracy on the training split, last epoch.")]
    train_loss: Annotated[float, Field(description="Loss on the training split, last epoch.")]
    epochs: Annotated[int, Field(description="Epochs trained.")]
    seconds: Annotated[float, Field(description="Wall time of the training loop.")]


class TrainingLineage(Record):
    """Where the version comes from."""

    dataset: Annotated[str, Field(max_length=253, description="The LeptonDataset.")]
    dataset_digest: Annotated[str, Field(max_length=64, description="Content address of its prepared copy.")]
    image: Annotated[str, Field(max_length=512, description="Trainer image.")]
    code_version: Annotated[str, Field(max_length=64, description="Version of the training code.")]
    tensorflow: Annotated[str, Field(max_length=64, description="Version of TensorFlow.")]
    seed: Annotated[int, Field(description="Seed of weights, order and dropout.")]


class TrainingJobStatus(Status):
    """The state of the training."""

    workers: Annotated[int | None, Field(description="Workers of the running or last attempt.")] = None
    attempt: Annotated[
        int | None,
        Field(description="Number of the running or last attempt, from 1; set once its Job is there."),
    ] = None
    failures: Annotated[int | None, Field(description="Failed attempts that count to backoffLimit.")] = None
    failed_attempt: Annotated[int | None, Field(description="Last attempt that was counted as ended.")] = None
    disruptions: Annotated[
        int | None, Field(description="Attempts ended by a disruption, or whose Job or result was lost.")
    ] = None
    dataset_digest: Annotated[
        str | None, Field(max_length=64, description="Prepared data pinned by the first attempt.")
    ] = None
    dataset_claim_name: Annotated[
        str | None, Field(max_length=253, description="Claim that holds that data.")
    ] = None
    next_attempt_time: Annotated[
        str | None,
        Field(json_schema_extra={"format": "date-time"}, description="When the next attempt starts."),
    ] = None
    waiting_since: Annotated[
        str | None,
        Field(json_schema_extra={"format": "date-time"}, description="When the current waiting began."),
    ] = None
    start_time: Annotated[
        str | None,
        Field(
            json_schema_extra={"format": "date-time"},
            description="When the first attempt was made; later by the time between an end and a raised "
            "limit.",
        ),
    ] = None
    completion_time: Annotated[
        str | None, Field(json_schema_extra={"format": "date-time"}, description="When the job ended.")
    ] = None
    progress: Annotated[TrainingProgress | None, Field(description="Where the running attempt stands.")] = (
        None
    )
    loss: Annotated[
        float | None, Field(description="Training loss while running, loss on the test split at the end.")
    ] = None
    accuracy: Annotated[
        float | None,
        Field(description="Training accuracy while running, accuracy on the test split at the end."),
    ] = None
    metrics: Annotated[TrainingMetrics | None, Field(description="How good the network is.")] = None
    result: Annotated[TrainingResult | None, Field(description="The model version that the job made.")] = None
    lineage: Annotated[TrainingLineage | None, Field(description="Where the version comes from.")] = None


TRAINING_JOB = Kind(
    name="LeptonTrainingJob",
    plural="leptontrainingjobs",
    singular="leptontrainingjob",
    short="ltj",
    description="One training of a network by a gang of workers, ending in an immutable model version.",
    spec=TrainingJobSpec,
    status=TrainingJobStatus,
    columns=(
        condition_column("Status", "Succeeded", "status", "True, False, or Unknown while it runs."),
        condition_column("Reason", "Succeeded", "reason", "Why."),
        Column("Epoch", "string", ".status.progress.epoch", "Finished epochs of all."),
        Column("Loss", "number", ".status.loss", "Training loss, at the end test loss."),
        Column("Accuracy", "number", ".status.accuracy", "Training accuracy, at the end test accuracy."),
        Column("Workers", "integer", ".status.workers", "Workers of the attempt."),
        AGE,
        Column("Dataset", "string", ".status.datasetDigest", "Content address of the data.", 1),
        Column("Version", "string", ".status.result.digest", "The model version.", 1),
    ),
)
