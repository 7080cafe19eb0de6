"""Every setting in one place: defaults, `LEPTON_*` in the environment, flags (the strongest)."""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from lepton_operator import __version__
from lepton_operator.api.common import QUANTITY_PATTERN
from lepton_operator.context import Context

ENVIRONMENT_PREFIX = "LEPTON_"


class SettingsError(Exception):
    """A setting is wrong; the text says which and why."""


def _split(value: Any) -> Any:
    """`a,b` -> ("a", "b")."""
    if isinstance(value, str):
        return tuple(part for part in (item.strip() for item in value.split(",")) if part)
    return value


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


Optional = Annotated[str | None, BeforeValidator(_none_if_empty)]


class Settings(BaseModel):
    """Validated once at start, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kubeconfig: Annotated[
        Optional,
        Field(description="kubeconfig file; else the pod's service account, KUBECONFIG, ~/.kube/config"),
    ] = None
    context: Annotated[Optional, Field(description="context of the kubeconfig; else its current one")] = None
    namespaces: Annotated[
        tuple[str, ...],
        BeforeValidator(_split),
        Field(description="namespaces to serve, separated by commas; all by default"),
    ] = ()
    trainer_image: Annotated[str, Field(min_length=1, description="image of training pods")] = (
        f"lepton-trainer:{__version__}"
    )
    server_image: Annotated[
        str, Field(min_length=1, description="image of serving, fetching and preparing pods")
    ] = f"lepton-server:{__version__}"
    tensorflow_server_image: Annotated[
        Optional,
        Field(
            description="image of the servers of models with engine: tensorflow; none by default: no such model"
        ),
    ] = None
    image_pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], Field(description="pull policy of these images")
    ] = "IfNotPresent"
    store_size: Annotated[
        str,
        Field(
            pattern=QUANTITY_PATTERN,
            description="size of the claim lepton-store when the operator creates it",
        ),
    ] = "10Gi"
    store_class: Annotated[
        Optional, Field(description="storage class of that claim; the cluster's default when empty")
    ] = None
    store_access_mode: Annotated[
        Literal["ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"],
        Field(description="access mode of that claim"),
    ] = "ReadWriteMany"
    report_interval_seconds: Annotated[
        float, Field(ge=1, le=3600, description="seconds between two reports pulled from a running pod")
    ] = 10.0
    drift_interval_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="seconds between two looks at a serving pod whose model watches for drift",
        ),
    ] = 60.0
    autoscaler_grace_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=86400,
            description="seconds that an autoscaler may fail before its model says so: figures of new pods "
            "come late",
        ),
    ] = 120.0
    workers: Annotated[int, Field(ge=1, le=256, description="objects reconciled at the same time")] = 8
    resync_seconds: Annotated[
        float,
        Field(ge=10, le=86400, description="seconds between two visits of every object without any event"),
    ] = 600.0
    lease_namespace: Annotated[
        Optional,
        Field(
            description="namespace of the Lease by which one of several operators leads; the pod's own by "
            "default; outside a cluster there is none unless this is set"
        ),
    ] = None
    lease_name: Annotated[str, Field(min_length=1, description="name of that Lease")] = "lepton-leader"
    stuck_seconds: Annotated[
        float,
        Field(
            ge=90,
            le=86400,
            description="/healthz fails when a visit takes or waits longer than this, or a watch gives no "
            "sign of life",
        ),
    ] = 300.0
    health_port: Annotated[
        int, Field(ge=0, le=65535, description="port of /healthz, /readyz and /metrics; 0 for none")
    ] = 8081
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least level of log lines")
    ] = "info"

    def decision_context(self) -> Context:
        """The part that decisions see."""
        return Context(
            trainer_image=self.trainer_image,
            server_image=self.server_image,
            tensorflow_server_image=self.tensorflow_server_image,
            image_pull_policy=self.image_pull_policy,
            store_size=self.store_size,
            store_class=self.store_class,
            store_access_mode=self.store_access_mode,
            report_interval_seconds=self.report_interval_seconds,
            drift_interval_seconds=self.drift_interval_seconds,
            autoscaler_grace_seconds=self.autoscaler_grace_seconds,
        )


def load_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags, else the environment, else defaults.

    Raises:
        SettingsError: a value is wrong.
        SystemExit: `--help`, `--version` or an unknown flag (argparse).
    """
    flags = vars(_parser().parse_args(arguments))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if flags[name] is not None:
            values[name], origins[name] = flags[name], _flag(name)
        elif variable in environment:
            values[name], origins[name] = environment[variable], variable
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise SettingsError(
            f"{origins.get(name, name)}={first['input']!r} is wrong: {first['msg']}"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lepton_operator",
        description="The Lepton operator. Each flag can be given in the environment as well.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    for name, info in Settings.model_fields.items():
        parser.add_argument(_flag(name), dest=name, metavar="VALUE", help=_help(name, info))
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(name: str, info: FieldInfo) -> str:
    default = f" (default: {info.default})" if info.default not in (None, ()) else ""
    return f"{info.description}{default} [{ENVIRONMENT_PREFIX}{name.upper()}]".replace("%", "%%")
