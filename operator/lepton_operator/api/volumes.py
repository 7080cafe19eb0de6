"""spec.podTemplate.volumes: more folders for the pods, and where Lepton's own are not in their way."""

from typing import Annotated, Literal

from pydantic import Field

from lepton_operator.api.common import Name, field_rule
from lepton_workloads.contract.base import CONTROL, Record

OWN_VOLUMES = (
    *("store", "data", "source", "model", "scratch", "progress", "output"),
    *("tokens", "tls", "requests"),
)
"""Names of the volumes that Lepton's pods have by themselves."""

CLOSED_FOLDERS = (
    *("/lepton", "/opt/lepton", "/dev", "/proc", "/sys", "/run/secrets", "/var/run/secrets"),
    *("/usr", "/bin", "/sbin", "/lib", "/lib64"),
)
"""Nothing is mounted here or below: Lepton's and the system's places; the one exception is OPEN_FOLDER."""
CLOSED_PLACES = ("/tmp", "/etc", "/opt", "/run", "/var", "/var/run")
"""Nothing is mounted just here; below it may."""
OPEN_FOLDER = "/dev/shm"
"""Shared memory: an emptyDir of medium Memory makes it larger than the runtime's 64 MiB."""

_RELATIVE = "!self.startsWith('/') && !self.split('/').exists(p, p == '..')"

Optional = Annotated[bool, Field(description="Whether the pod may start without it.")]


class VolumeItem(Record):
    """A key of a Secret or ConfigMap as a file."""

    key: Annotated[str, Field(min_length=1, max_length=253, description="Key in it.")]
    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=256,
            json_schema_extra=field_rule(
                f"{_RELATIVE} && !self.startsWith('..') && !self.matches('{CONTROL}')",
                "path is relative to mountPath and must not hold '..': write for example settings.json",
            ),
            description="File name, relative to mountPath.",
        ),
    ]


class EmptyDirVolume(Record):
    """A folder that lives as long as the pod."""

    medium: Annotated[
        Literal["", "Memory"],
        Field(description="Memory: in memory, which counts to the containers' memory; empty: on disk."),
    ] = ""
    size_limit: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra=field_rule(
                "self.matches('^[1-9][0-9]{0,8}(Ki|Mi|Gi|Ti)$')",
                "sizeLimit is a number with Ki, Mi, Gi or Ti: write for example 1Gi",
            ),
            description="Largest size; a pod that exceeds it is evicted. Left out: none.",
        ),
    ] = None


class ClaimVolume(Record):
    """A PersistentVolumeClaim of the same namespace."""

    claim_name: Annotated[Name, Field(description="Name of a PersistentVolumeClaim in the same namespace.")]


class SecretVolume(Record):
    """A Secret of the same namespace, a file for each key."""

    secret_name: Annotated[Name, Field(description="Name of a Secret in the same namespace.")]
    optional: Optional = False
    items: Annotated[
        list[VolumeItem] | None, Field(max_length=64, description="Only these keys; left out: all.")
    ] = None


class ConfigMapVolume(Record):
    """A ConfigMap of the same namespace, a file for each key."""

    name: Annotated[Name, Field(description="Name of a ConfigMap in the same namespace.")]
    optional: Optional = False
    items: Annotated[
        list[VolumeItem] | None, Field(max_length=64, description="Only these keys; left out: all.")
    ] = None


def _listed(names: tuple[str, ...]) -> str:
    return f"[{', '.join(repr(name) for name in names)}]"


_CLOSED = (
    f"!(self in {_listed((*CLOSED_FOLDERS, *CLOSED_PLACES))}) && "
    f"(self == '{OPEN_FOLDER}' || !{_listed(CLOSED_FOLDERS)}.exists(f, self.startsWith(f + '/')))"
)

MountPath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "self.matches('^(/[^/:]+)+$') && !self.split('/').exists(p, p in ['.', '..']) && "
                    f"!self.matches('{CONTROL}')",
                    "message": "mountPath is an absolute path without '.', '..' and ':', and without a '/' at its "
                    "end: write for example /data",
                },
                {
                    "rule": _CLOSED,
                    "message": f"mountPath must not be {', '.join(CLOSED_PLACES)}, nor at or below "
                    f"{', '.join(CLOSED_FOLDERS)} (but {OPEN_FOLDER} may be): write for example /data",
                },
            ]
        },
        description="Where it is in the containers.",
    ),
]


class Volume(Record):
    """A volume and where it is mounted: exactly one of emptyDir, persistentVolumeClaim, secret and configMap."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            json_schema_extra=field_rule(
                f"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && !(self in {_listed(OWN_VOLUMES)})",
                "a volume's name holds a-z, 0-9 and '-', and is none of Lepton's own "
                f"({', '.join(OWN_VOLUMES)}): write for example code",
            ),
            description="Name of the volume.",
        ),
    ]
    mount_path: MountPath
    sub_path: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=256,
            json_schema_extra=field_rule(
                f"{_RELATIVE} && !self.matches('{CONTROL}')",
                "subPath is relative to the volume's root and must not hold '..': write for example photos/2026",
            ),
            description="File or folder of the volume that is mounted; left out: all of it.",
        ),
    ] = None
    read_only: Annotated[bool, Field(description="Whether it can't be written.")] = False
    empty_dir: Annotated[EmptyDirVolume | None, Field(description="A folder of the pod's own.")] = None
    persistent_volume_claim: Annotated[
        ClaimVolume | None, Field(description="A claim; Lepton neither makes nor deletes it.")
    ] = None
    secret: Annotated[SecretVolume | None, Field(description="A Secret.")] = None
    config_map: Annotated[ConfigMapVolume | None, Field(description="A ConfigMap.")] = None

    cel_rules = (
        (
            "[has(self.emptyDir), has(self.persistentVolumeClaim), has(self.secret), has(self.configMap)]"
            ".filter(s, s).size() == 1",
            "set exactly one of emptyDir, persistentVolumeClaim, secret and configMap in each entry of "
            "podTemplate.volumes",
        ),
    )


UNIQUE_MOUNT_PATHS = (
    "!has(self.volumes) || self.volumes.all(v, self.volumes.exists_one(w, w.mountPath == v.mountPath))",
    "two entries of podTemplate.volumes have the same mountPath: give each its own",
)
