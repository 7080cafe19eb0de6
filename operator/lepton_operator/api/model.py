"""LeptonModel: which model version is served, and how."""

from typing import Annotated

from pydantic import Field

from lepton_operator.api.common import LeptonName, Resources, StartupDeadline, Status
from lepton_operator.api.kind import AGE, Column, Kind, condition_column
from lepton_operator.api.pod_template import PodTemplate
from lepton_operator.api.security import Security
from lepton_workloads.contract.base import CONTROL, SUBDOMAIN, Record
from lepton_workloads.contract.serving import Alarm, Drift, EngineName, Precision, RequestLog

MEMORY = {"litert": "128Mi", "tensorflow": "1Gi"}
"""What a server asks for where the spec names no resources, by its engine."""


class TrainingJobReference(Record):
    """A LeptonTrainingJob of the same namespace."""

    name: Annotated[LeptonName, Field(description="Name of a LeptonTrainingJob in the same namespace.")]


class ModelSource(Record):
    """Where the version comes from: exactly one of trainingJob and uri."""

    training_job: Annotated[
        TrainingJobReference | None,
        Field(description="The version that a training job made; the model waits until it has succeeded."),
    ] = None
    uri: Annotated[
        str | None,
        Field(
            max_length=2048,
            description="pvc://CLAIM/PATH (a folder with SHA256SUMS) or http(s)://HOST/FILE.tar.gz (that "
            "folder, packed).",
        ),
    ] = None
    sha256: Annotated[
        str | None,
        Field(
            max_length=64,
            description="For http(s): sha256 of the archive, required. For pvc: sha256 of the folder's "
            "SHA256SUMS.",
        ),
    ] = None

    cel_rules = (
        (
            "has(self.trainingJob) != has(self.uri)",
            "set exactly one of source.trainingJob and source.uri, for example source: "
            "{trainingJob: {name: digits-cnn}}",
        ),
        (
            f"!has(self.uri) || self.uri.matches('^pvc://{SUBDOMAIN[1:-1]}(/.*)?$') && "
            "size(self.uri.split('/')[2]) <= 253"
            " || self.uri.matches('^https?://[^/ @?#]+/[^ ]+$') && isURL(self.uri)",
            "uri must be pvc://CLAIM/PATH, http://HOST/FILE.tar.gz or https://HOST/FILE.tar.gz",
        ),
        (
            f"!has(self.uri) || !self.uri.matches('{CONTROL}')",
            "uri must hold no control characters, such as line breaks: write it on one line",
        ),
        (
            "!has(self.uri) || !self.uri.contains('/../') && !self.uri.endsWith('/..')",
            "uri must not hold '..'",
        ),
        (
            "!has(self.uri) || !self.uri.startsWith('http') || has(self.sha256)",
            "an http(s) uri needs sha256: write the sha256 of the archive, as sha256sum prints it",
        ),
        (
            "!has(self.sha256) || self.sha256.matches('^[0-9a-f]{64}$')",
            "sha256 must be 64 lower-case hexadecimal digits, as sha256sum prints it",
        ),
        (
            "!has(self.sha256) || has(self.uri)",
            "sha256 goes with uri; a training job's version has its own checksums",
        ),
    )


class Autoscaling(Record):
    """Pods by load. Scale to zero by load is not there: `replicas: 0` stops serving."""

    min_replicas: Annotated[
        int, Field(ge=0, le=1000, description="Fewest pods, at least 1; to stop serving write replicas: 0.")
    ] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000, description="Most pods.")]
    target_cpu_utilization_percentage: Annotated[
        int,
        Field(
            alias="targetCPUUtilizationPercentage",
            ge=1,
            le=1000,
            description="Mean CPU use of the pods that is aimed at, in percent of resources.requests.cpu.",
        ),
    ] = 80
    scale_down_stabilization_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=3600,
            description="How long less load must last before pods are taken away, in seconds.",
        ),
    ] = 300

    cel_rules = (
        (
            "self.minReplicas >= 1",
            "autoscaling does not scale to zero: write minReplicas: 1 or more, or, to stop serving, replicas: 0 "
            "instead of autoscaling",
        ),
        (
            "self.maxReplicas >= self.minReplicas",
            "autoscaling.maxReplicas must be at least minReplicas, for example minReplicas: 2 with maxReplicas: 10",
        ),
    )


class ModelSpec(Record):
    """The wanted service. A change of the version rolls out without a gap."""

    source: Annotated[ModelSource, Field(description="Where the version comes from.")]
    replicas: Annotated[
        int | None,
        Field(
            ge=0,
            le=1000,
            description="Pods that answer, 1 unless it or autoscaling is set; 0 stops serving and keeps the rest.",
        ),
    ] = None
    autoscaling: Annotated[
        Autoscaling | None, Field(description="Pods by CPU load, instead of replicas; needs metrics-server.")
    ] = None
    engine: Annotated[
        EngineName,
        Field(
            description="What runs the network: litert (model.tflite; small and fast), or tensorflow (saved_model; "
            "for networks that litert can't run; needs the operator's LEPTON_TENSORFLOW_SERVER_IMAGE)."
        ),
    ] = "litert"
    precision: Annotated[
        Precision,
        Field(
            description="float32, or int8: the 8-bit network of the version, which is smaller and faster and may be "
            "a little less accurate."
        ),
    ] = "float32"
    max_accuracy_drop: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="With precision: int8 a version is served only if its 8-bit network is at most so much less "
            "accurate than the 32-bit one, for example 0.005 for half a percentage point.",
        ),
    ] = 0.005
    grpc: Annotated[
        bool,
        Field(description="Also answer gRPC (Open Inference Protocol, TensorFlow Serving), at port 9000."),
    ] = False
    timeout_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=600,
            description="A request that waits longer for the engine is given up; a pod that ends waits as long for "
            "those it has begun.",
        ),
    ] = 10
    max_request_megabytes: Annotated[int, Field(ge=1, le=64, description="Largest request, in MiB.")] = 16
    security: Annotated[Security | None, Field(description="Bearer tokens and TLS; left out: neither.")] = (
        None
    )
    alarms: Annotated[
        list[Alarm] | None,
        Field(
            max_length=16,
            description="Rules by which predictions of some classes are told to others.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = None
    drift: Annotated[
        Drift | None,
        Field(
            description="Watch whether pictures and answers still look like those of the training; the condition "
            "DriftDetected tells. Left out: not watched."
        ),
    ] = None
    request_log: Annotated[
        RequestLog | None,
        Field(
            description="Keep requests and answers on a claim, for later training. Left out: nothing is kept."
        ),
    ] = None
    resources: Annotated[
        Resources,
        Field(
            description="Resources of each server; left out: requests of 100m CPU and 128Mi memory, with engine: "
            "tensorflow 1Gi."
        ),
    ] = Resources()
    pod_template: Annotated[PodTemplate, Field(description="Additions to the servers' pods.")] = PodTemplate()
    startup_deadline_seconds: StartupDeadline = 600

    cel_rules = (
        (
            "!has(self.replicas) || !has(self.autoscaling)",
            "replicas and autoscaling exclude each other: remove one of them (with autoscaling, kubectl scale is "
            "refused, too: change minReplicas and maxReplicas)",
        ),
        (
            "!has(self.autoscaling) || has(self.resources.requests) && 'cpu' in self.resources.requests"
            " || has(self.resources.limits) && 'cpu' in self.resources.limits"
            " || (!has(self.resources.requests) || size(self.resources.requests) == 0)"
            " && (!has(self.resources.limits) || size(self.resources.limits) == 0)",
            "autoscaling goes by the share of the requested CPU: set resources.requests.cpu, for example 100m",
        ),
        (
            "self.precision != 'int8' || self.engine == 'litert'",
            "precision: int8 goes with engine: litert only: write engine: litert, or precision: float32",
        ),
    )

    @property
    def pod_resources(self) -> Resources:
        """Of each server."""
        return self.resources.or_else(Resources(requests={"cpu": "100m", "memory": MEMORY[self.engine]}))

    @property
    def has_tls(self) -> bool:
        """Whether clients come by TLS."""
        return self.security is not None and self.security.tls_secret is not None

    @property
    def fewest_replicas(self) -> int:
        """The number of pods, or with autoscaling the smallest."""
        if self.autoscaling is not None:
            return self.autoscaling.min_replicas
        return 1 if self.replicas is None else self.replicas


class ModelArtifact(Record):
    """The version, pinned: it is kept when the training job is deleted."""

    digest: Annotated[
        str | None,
        Field(max_length=64, description="sha256 of the artifact's SHA256SUMS, or of the archive."),
    ] = None
    claim_name: Annotated[str | None, Field(max_length=253, description="Claim that holds it.")] = None
    path: Annotated[str | None, Field(max_length=2048, description="Folder on the claim.")] = None
    uri: Annotated[str | None, Field(max_length=2048, description="Address it is fetched from.")] = None
    training_job: Annotated[str | None, Field(max_length=253, description="Training job that made it.")] = (
        None
    )
    training_job_uid: Annotated[str | None, Field(max_length=64, description="uid of that job.")] = None
    int8_accuracy: Annotated[
        float | None,
        Field(description="Accuracy of its 8-bit network; absent: it has none, or none is known."),
    ] = None
    float_accuracy: Annotated[
        float | None, Field(description="Accuracy of its 32-bit network on the same pictures.")
    ] = None
    engine: Annotated[EngineName | None, Field(description="What runs it.")] = None
    precision: Annotated[Precision | None, Field(description="As what it is run.")] = None


class DriftStatus(Record):
    """What the pod sees that sees most of a drift."""

    pod: Annotated[str, Field(max_length=253, description="The pod.")]
    samples: Annotated[int, Field(description="Predictions in its window.")]
    largest: Annotated[float | None, Field(description="Largest of the indexes.")] = None
    indexes: Annotated[
        dict[str, float] | None,
        Field(
            max_length=16,
            description="Population stability indexes by what is compared: brightness, contrast, confidence, "
            "predicted, channel_0 and so on.",
        ),
    ] = None
    update_time: Annotated[
        str,
        Field(
            json_schema_extra={"format": "date-time"},
            description="When these figures were written: when the condition changes, and at most every 10 minutes.",
        ),
    ]


class ModelStatus(Status):
    """The state of the service."""

    version: Annotated[
        str | None, Field(max_length=12, description="First 12 digits of the wanted version's digest.")
    ] = None
    artifact: Annotated[ModelArtifact | None, Field(description="The wanted version, pinned.")] = None
    accuracy: Annotated[float | None, Field(description="Accuracy of the version on its test split.")] = None
    url: Annotated[
        str | None, Field(max_length=253, description="Address of the service in the cluster.")
    ] = None
    replicas: Annotated[int | None, Field(description="Pods there are, of any version.")] = None
    updated_replicas: Annotated[int | None, Field(description="Pods of the wanted version.")] = None
    ready_replicas: Annotated[int | None, Field(description="Pods that answer, of any version.")] = None
    replicas_ready: Annotated[
        str | None, Field(max_length=16, description="Ready of wanted pods, for example 2/2.")
    ] = None
    selector: Annotated[
        str | None,
        Field(max_length=253, description="Label selector of the pods, for the scale subresource."),
    ] = None
    drift: Annotated[
        DriftStatus | None,
        Field(description="Figures of the watch for drift; see the condition DriftDetected."),
    ] = None
    waiting_since: Annotated[
        str | None,
        Field(
            json_schema_extra={"format": "date-time"},
            description="When the current waiting or rollout began.",
        ),
    ] = None


MODEL = Kind(
    name="LeptonModel",
    plural="leptonmodels",
    singular="leptonmodel",
    short="lm",
    description="A model version, served: predictions over HTTP, rolled forward without a gap.",
    spec=ModelSpec,
    status=ModelStatus,
    columns=(
        condition_column("Ready", "Ready", "status", "Whether exactly the wanted version is up."),
        condition_column("Reason", "Ready", "reason", "Why."),
        Column("Version", "string", ".status.version", "The wanted version."),
        Column("Replicas", "string", ".status.replicasReady", "Ready of wanted pods."),
        Column("Accuracy", "number", ".status.accuracy", "Accuracy on the test split."),
        Column("URL", "string", ".status.url", "Address in the cluster."),
        AGE,
        Column("Digest", "string", ".status.artifact.digest", "The wanted version, whole.", 1),
    ),
    scalable=True,
)
