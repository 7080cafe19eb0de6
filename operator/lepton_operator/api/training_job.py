"""LeptonTrainingJob: one training of one network on one dataset, ending in an immutable model version."""

from typing import Annotated

from pydantic import Field

from lepton_operator.api.common import LeptonName, Resources, StartupDeadline, Status, Storage, field_rule
from lepton_operator.api.kind import AGE, Column, Kind, condition_column
from lepton_operator.api.pod_template import PodTemplate
from lepton_workloads.contract.base import Record
from lepton_workloads.contract.judgement import CheckpointSpec, EvaluationSpec
from lepton_workloads.contract.network import Network
from lepton_workloads.contract.training import Training

MUTABLE_FIELDS = frozenset(
    {"active_deadline_seconds", "backoff_limit", "suspend", "ttl_seconds_after_finished"}
)
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""On a training job: its Jobs are made suspended with this label, and a queue starts and stops them."""


class JobReference(Record):
    """A LeptonTrainingJob of the same namespace."""

    name: Annotated[LeptonName, Field(description="Name of a LeptonTrainingJob in the same namespace.")]


class DatasetReference(Record):
    """A LeptonDataset of the same namespace."""

    name: Annotated[LeptonName, Field(description="Name of a LeptonDataset in the same namespace.")]


class WarmStartSpec(Record):
    """Weights to begin with, from an earlier version: exactly one of trainingJob and version."""

    training_job: Annotated[
        JobReference | None,
        Field(
            description="A LeptonTrainingJob of the same namespace and claim; this one waits until it succeeded."
        ),
    ] = None
    version: Annotated[
        str | None,
        Field(
            max_length=64,
            json_schema_extra=field_rule(
                "self.matches('^[0-9a-f]{64}$')",
                "a version is the 64 hex digits of status.result.digest of the job that made it",
            ),
            description="Digest of a version on the claim of spec.storage, as status.result.digest tells it.",
        ),
    ] = None
    frozen_layers: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]] | None,
        Field(
            max_length=64,
            description="Layers that keep these weights: convolution_0, batch_normalization_0, dense_0 and so on, "
            "counted from 0 at the input.",
        ),
    ] = None

    cel_rules = (
        (
            "has(self.trainingJob) != has(self.version)",
            "set exactly one of warmStart.trainingJob and warmStart.version",
        ),
        (
            "!has(self.frozenLayers) || self.frozenLayers.all(l, "
            "l.matches('^(convolution|batch_normalization|dense)_[0-9]+$'))",
            "frozenLayers names layers as convolution_0, batch_normalization_0 or dense_0, counted from 0 at the "
            "input",
        ),
    )


class TrainingJobSpec(Record):
    """The wanted training. Fixed once created, apart from its limits: another training is another object."""

    dataset: Annotated[
        DatasetReference, Field(description="The data to train on; the job waits until it is Ready.")
    ]
    network: Annotated[Network, Field(description="The network.")] = Network()
    training: Annotated[Training, Field(description="Hyper-parameters.")] = Training()
    evaluation: Annotated[EvaluationSpec, Field(description="How the trained network is judged.")] = (
        EvaluationSpec()
    )
    checkpoint: Annotated[
        CheckpointSpec, Field(description="When the state is saved, from which a later attempt goes on.")
    ] = CheckpointSpec()
    warm_start: Annotated[
        WarmStartSpec | None, Field(description="Weights to begin with; left out: random ones from the seed.")
    ] = None
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
        Field(
            ge=1,
            le=31_536_000,
            description="Longest time that all attempts and folds together may take; it stands still while "
            "suspended or queued.",
        ),
    ] = None
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(
            ge=0,
            le=31_536_000,
            description="When its Jobs, pods and Service are removed after the end; this object and the version "
            "stay. Left out: never.",
        ),
    ] = None
    suspend: Annotated[
        bool,
        Field(
            description="Stops the pods; false lets the training go on from its last checkpoint. With the label "
            "kueue.x-k8s.io/queue-name a queue decides, and this must stay false."
        ),
    ] = False
    startup_deadline_seconds: StartupDeadline = 600

    cel_rules = (
        (
            "self.training.batchSize % self.workers == 0",
            "training.batchSize must be a multiple of workers, for example batchSize: 64 with workers: 2",
        ),
        (
            "self.network.type == 'cnn' || !has(self.evaluation.crossValidation) && !has(self.warmStart)",
            "evaluation.crossValidation and warmStart go with network.type: cnn only: your own code does these itself",
        ),
    )

    @property
    def pod_resources(self) -> Resources:
        """Of each worker."""
        return self.resources.or_else(Resources(requests={"cpu": "400m", "memory": "1Gi"}))


class FoldStatus(Record):
    """One fold of the cross-validation."""

    fold: Annotated[int, Field(description="Number of the part that is held out, from 0.")]
    attempt: Annotated[int | None, Field(description="Number of the running or last attempt.")] = None
    failed_attempt: Annotated[int | None, Field(description="Last attempt that was counted as ended.")] = None
    disrupted_attempt: Annotated[int | None, Field(description="Last attempt that was seen disrupted.")] = (
        None
    )
    accuracy: Annotated[float | None, Field(description="Accuracy on the held-out part.")] = None
    loss: Annotated[float | None, Field(description="Loss on the held-out part.")] = None
    f1: Annotated[float | None, Field(description="F1 on the held-out part, mean over the classes.")] = None
    samples: Annotated[int | None, Field(description="Pictures of the held-out part.")] = None


class GateStatus(Record):
    """What the gate demanded and what it got."""

    demand: Annotated[
        str, Field(max_length=400, description="The demand, for example accuracy at least 0.9.")
    ]
    value: Annotated[
        float | None, Field(description="The figure; absent: the test split holds nothing to measure it by.")
    ] = None
    passed: Annotated[bool, Field(description="Whether it was reached.")]


class EvaluationStatus(Record):
    """How the network was judged beyond the test split."""

    folds: Annotated[list[FoldStatus] | None, Field(description="The folds of the cross-validation.")] = None
    completed_folds: Annotated[
        str | None, Field(max_length=16, description="Finished folds of all, for example 3/5.")
    ] = None
    mean_accuracy: Annotated[float | None, Field(description="Mean accuracy of the folds.")] = None
    standard_deviation: Annotated[
        float | None, Field(description="Sample standard deviation of the folds' accuracies.")
    ] = None
    mean_loss: Annotated[float | None, Field(description="Mean loss of the folds.")] = None
    gate: Annotated[GateStatus | None, Field(description="The gate, once it was judged.")] = None


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
    learning_rate: Annotated[float | None, Field(description="Learning rate.")] = None
    eta_seconds: Annotated[int | None, Field(description="Estimated time until the last epoch is done.")] = (
        None
    )
    update_time: Annotated[
        str | None,
        Field(
            json_schema_extra={"format": "date-time"},
            description="When these figures were written: after each epoch, at most every 10 s, at least every "
            "minute.",
        ),
    ] = None


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
    precision: Annotated[float | None, Field(description="Mean precision of the classes, test split.")] = None
    recall: Annotated[float | None, Field(description="Mean recall of the classes, test split.")] = None
    f1: Annotated[float | None, Field(description="Mean F1 of the classes, test split.")] = None
    top_k_accuracy: Annotated[float | None, Field(description="Top-k accuracy, test split.")] = None
    expected_calibration_error: Annotated[
        float | None, Field(description="How far confidence is from accuracy, test split; 15 bins.")
    ] = None
    int8_accuracy: Annotated[
        float | None,
        Field(
            description="Accuracy of the 8-bit version on the validation split, without one the test split."
        ),
    ] = None
    float_accuracy: Annotated[
        float | None, Field(description="Accuracy of the 32-bit version on the same pictures.")
    ] = None
    epochs: Annotated[int, Field(description="Epochs trained.")]
    best_epoch: Annotated[int | None, Field(description="Epoch whose weights the version has.")] = None
    stopped_early: Annotated[bool | None, Field(description="Early stopping ended the training.")] = None
    seconds: Annotated[float, Field(description="Wall time of the training loop.")]


class TrainingLineage(Record):
    """Where the version comes from."""

    dataset: Annotated[str, Field(max_length=253, description="The LeptonDataset.")]
    dataset_digest: Annotated[str, Field(max_length=64, description="Content address of its prepared copy.")]
    image: Annotated[str, Field(max_length=512, description="Trainer image.")]
    code_version: Annotated[str, Field(max_length=64, description="Version of the training code.")]
    tensorflow: Annotated[str, Field(max_length=64, description="Version of TensorFlow.")]
    seed: Annotated[int, Field(description="Seed of weights, order, dropout and augmentation.")]
    warm_start: Annotated[
        str | None, Field(max_length=64, description="Version whose weights it began with.")
    ] = None


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
    disrupted_attempt: Annotated[
        int | None, Field(description="Last attempt of which a pod was seen that its surroundings end.")
    ] = None
    dataset_digest: Annotated[
        str | None, Field(max_length=64, description="Prepared data pinned by the first attempt.")
    ] = None
    dataset_claim_name: Annotated[
        str | None, Field(max_length=253, description="Claim that holds that data.")
    ] = None
    warm_start_digest: Annotated[
        str | None, Field(max_length=64, description="Version whose weights the first attempt began with.")
    ] = None
    paused_since: Annotated[
        str | None,
        Field(
            json_schema_extra={"format": "date-time"},
            description="Since when it is suspended or queued; the deadline stands still.",
        ),
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
    evaluation: Annotated[EvaluationStatus | None, Field(description="Cross-validation and gate.")] = None
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
