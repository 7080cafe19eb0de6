"""spec.podTemplate: the parts of its pods that are the user's to say; all else is Lepton's."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lepton_operator.api.common import Name, field_rule
from lepton_operator.api.volumes import UNIQUE_MOUNT_PATHS, Volume
from lepton_workloads.contract.base import Record

LEPTON_ENV_PREFIX = "LEPTON_"
OWN_ENV = ("JOB_COMPLETION_INDEX", "TF_CONFIG")
"""Besides LEPTON_*: set by the Job controller and by the trainer."""

OWN_PREFIXES = ("lepton.ai/", "batch.kubernetes.io/")
OWN_LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "controller-uid",
    "job-name",
    "pod-template-hash",
)
OWN_ANNOTATIONS = ("prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path")

_KEY = "^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$"
_VALUE = "^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$"

LabelValue = Annotated[str, Field(max_length=63)]
AnnotationValue = Annotated[str, Field(max_length=4096)]

NAMED_KEY = "Name of the object in the same namespace."
OPTIONAL = "Whether the pod may start without it."


def _free(field: str, names: tuple[str, ...]) -> tuple[str, str]:
    """The rule that keeps a map clear of what Lepton and Kubernetes set themselves."""
    prefixes = " && ".join(f"!k.startsWith('{prefix}')" for prefix in OWN_PREFIXES)
    listed = ", ".join(f"'{name}'" for name in names)
    return (
        f"!has(self.{field}) || self.{field}.all(k, {prefixes} && !(k in [{listed}]))",
        f"podTemplate.{field} must leave {', '.join(f'{prefix}*' for prefix in OWN_PREFIXES)}, "
        f"{', '.join(names)} alone: Lepton and Kubernetes set them; use a key of your own, "
        "for example example.com/team",
    )


def _keys(field: str) -> tuple[str, str]:
    return (
        f"!has(self.{field}) || self.{field}.all(k, k.matches('{_KEY}'))",
        f"a key of podTemplate.{field} must be a name of letters, digits, '-', '_' and '.', with an optional "
        "domain before it, for example team or example.com/team",
    )


def _values(field: str) -> tuple[str, str]:
    return (
        f"!has(self.{field}) || self.{field}.all(k, self.{field}[k].matches('{_VALUE}'))",
        f"a value of podTemplate.{field} must be letters, digits, '-', '_' and '.', beginning and ending with "
        "a letter or digit, or empty",
    )


class Toleration(Record):
    """A taint of nodes that the pods bear, as in a pod."""

    key: Annotated[str, Field(max_length=316, description="Key of the taint; empty: any.")] = ""
    operator: Annotated[
        Literal["Exists", "Equal"], Field(description="Exists: any value; Equal: this value.")
    ] = "Equal"
    value: Annotated[str, Field(max_length=63, description="Value of the taint.")] = ""
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Field(description="Effect of the taint; left out: any."),
    ] = None
    toleration_seconds: Annotated[
        int | None, Field(description="How long NoExecute is borne, in seconds; left out: for ever.")
    ] = None

    cel_rules = (
        (
            "self.key != '' || self.operator == 'Exists'",
            "a toleration without a key needs operator: Exists",
        ),
        (
            f"self.key == '' || self.key.matches('{_KEY}')",
            "a toleration's key must be a name of letters, digits, '-', '_' and '.', with an optional domain "
            "before it, for example nvidia.com/gpu",
        ),
        (
            f"self.value.matches('{_VALUE}')",
            "a toleration's value must be letters, digits, '-', '_' and '.', or be left out",
        ),
        (
            "self.operator != 'Exists' || self.value == ''",
            "a toleration with operator: Exists has no value: leave value out, or write operator: Equal",
        ),
        (
            "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
            "tolerationSeconds goes with effect: NoExecute only",
        ),
    )


class LocalReference(Record):
    """An object of the same namespace."""

    name: Annotated[Name, Field(description=NAMED_KEY)]


class KeyReference(Record):
    """A key of a Secret or ConfigMap of the same namespace."""

    name: Annotated[Name, Field(description=NAMED_KEY)]
    key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            json_schema_extra=field_rule(
                "self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')",
                "no Secret or ConfigMap has such a key: write letters, digits, '-', '_' and '.', for example password",
            ),
            description="Key in it.",
        ),
    ]
    optional: Annotated[bool, Field(description=OPTIONAL)] = False


class EnvSource(Record):
    """Where the value of a variable is: exactly one of the fields."""

    secret_key_ref: Annotated[KeyReference | None, Field(description="A key of a Secret.")] = None
    config_map_key_ref: Annotated[KeyReference | None, Field(description="A key of a ConfigMap.")] = None

    cel_rules = (
        (
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "set exactly one of valueFrom.secretKeyRef and valueFrom.configMapKeyRef",
        ),
    )


class EnvVariable(Record):
    """An environment variable: a value, or where it is."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the variable.")]
    value: Annotated[str | None, Field(max_length=4096, description="Its value.")] = None
    value_from: Annotated[EnvSource | None, Field(description="Where its value is.")] = None

    cel_rules = (
        (
            "has(self.value) != has(self.valueFrom)",
            "set exactly one of value and valueFrom for each variable of podTemplate.env",
        ),
        (
            "self.name.matches('^[A-Za-z_][-._A-Za-z0-9]*$')",
            "a variable's name starts with a letter or '_' and holds letters, digits, '_', '-' and '.'",
        ),
        (
            f"!self.name.startsWith('{LEPTON_ENV_PREFIX}') && !(self.name in "
            f"[{', '.join(repr(name) for name in OWN_ENV)}])",
            f"{LEPTON_ENV_PREFIX}*, {' and '.join(OWN_ENV)} are set by Lepton: use another name for the variable",
        ),
    )


class ReferenceOption(Record):
    """A Secret or ConfigMap of the same namespace."""

    name: Annotated[Name, Field(description=NAMED_KEY)]
    optional: Annotated[bool, Field(description=OPTIONAL)] = False


class EnvFrom(Record):
    """All keys of a Secret or ConfigMap as variables; Lepton's own variables win over them."""

    prefix: Annotated[str, Field(max_length=253, description="Put before each key.")] = ""
    secret_ref: Annotated[ReferenceOption | None, Field(description="The Secret.")] = None
    config_map_ref: Annotated[ReferenceOption | None, Field(description="The ConfigMap.")] = None

    cel_rules = (
        (
            "has(self.secretRef) != has(self.configMapRef)",
            "set exactly one of secretRef and configMapRef in each entry of podTemplate.envFrom",
        ),
        (
            "self.prefix == '' || self.prefix.matches('^[A-Za-z_][-._A-Za-z0-9]*$')",
            "a prefix starts with a letter or '_' and holds letters, digits, '_', '-' and '.', for example DB_",
        ),
        (
            f"!self.prefix.startsWith('{LEPTON_ENV_PREFIX}')",
            f"variables that start with {LEPTON_ENV_PREFIX} are set by Lepton: use another prefix in envFrom",
        ),
    )


class PodTemplate(Record):
    """What its pods get besides Lepton's own; own volumes, security and service account are not to be changed."""

    labels: Annotated[
        dict[str, LabelValue] | None, Field(max_length=32, description="Labels of the pods.")
    ] = None
    annotations: Annotated[
        dict[str, AnnotationValue] | None, Field(max_length=32, description="Annotations of the pods.")
    ] = None
    node_selector: Annotated[
        dict[str, LabelValue] | None, Field(max_length=32, description="Labels that a node must have.")
    ] = None
    tolerations: Annotated[
        list[Toleration] | None, Field(max_length=32, description="Taints of nodes that the pods bear.")
    ] = None
    affinity: Annotated[
        dict[str, Any] | None,
        Field(
            description="Which nodes and neighbours the pods prefer or need, as a pod's affinity; it is checked "
            "when the pods are made (AdmissionDenied).",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None
    priority_class_name: Annotated[Name | None, Field(description="PriorityClass of the pods.")] = None
    runtime_class_name: Annotated[Name | None, Field(description="RuntimeClass of the pods.")] = None
    scheduler_name: Annotated[
        str | None, Field(min_length=1, max_length=253, description="Scheduler that places the pods.")
    ] = None
    image_pull_secrets: Annotated[
        list[LocalReference] | None,
        Field(
            max_length=16,
            description="Secrets for pulling images, in the same namespace.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = None
    env: Annotated[
        list[EnvVariable] | None,
        Field(
            max_length=64,
            description="Variables of all containers, init containers too.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = None
    env_from: Annotated[
        list[EnvFrom] | None,
        Field(max_length=16, description="Secrets and ConfigMaps whose keys become variables."),
    ] = None
    volumes: Annotated[
        list[Volume] | None,
        Field(
            max_length=16,
            description="Volumes that all containers mount, init containers too.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = None

    cel_rules = (
        _free("labels", OWN_LABELS),
        _free("annotations", OWN_ANNOTATIONS),
        _keys("labels"),
        _keys("annotations"),
        _keys("nodeSelector"),
        _values("labels"),
        _values("nodeSelector"),
        UNIQUE_MOUNT_PATHS,
    )
