"""Every setting of the server in one place; all come from the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.tasks import (
    GRPC_PORT,
    HTTP_PORT,
    MODEL_DIR,
    REPORT_PORT,
    TASK_ENV,
    THREADS_ENV,
    ServeTask,
)
from lepton_workloads.paths import place
from lepton_workloads.report import REPORT_PORT_ENV
from lepton_workloads.termination import WorkloadError

PORT_ENV = "LEPTON_HTTP_PORT"
GRPC_PORT_ENV = "LEPTON_GRPC_PORT"
ACCESS_LOG_ENV = "LEPTON_ACCESS_LOG"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process was told."""

    task: ServeTask
    model_dir: Path
    port: int
    threads: int
    access_log: float
    """Share of good requests that are logged, 0 to 1; failed ones (status >= 400) always are."""
    grpc_port: int = GRPC_PORT
    report_port: int = 0
    """For the report and the metrics, without token and TLS."""


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from environment variables.

    Raises:
        WorkloadError: `InvalidSpec`, terminal, naming the variable.
    """
    try:
        task = ServeTask.model_validate_json(environment.get(TASK_ENV, ""))
        version = task.version_number
    except (ValidationError, ValueError) as error:
        raise _invalid(f"{TASK_ENV} is no task of the server: {error}") from error
    if version <= 0:
        raise _invalid(f"{TASK_ENV}: version must be hex digits of a positive number")
    return Settings(
        task=task,
        model_dir=place(MODEL_DIR),
        port=int(_number(environment, PORT_ENV, str(HTTP_PORT), 0, 65535)),
        threads=int(_number(environment, THREADS_ENV, "1", 1, 1024)),
        access_log=_number(environment, ACCESS_LOG_ENV, "0", 0, 1),
        grpc_port=int(_number(environment, GRPC_PORT_ENV, str(GRPC_PORT), 0, 65535)),
        report_port=int(_number(environment, REPORT_PORT_ENV, str(REPORT_PORT), 0, 65535)),
    )


def _number(environment: Mapping[str, str], name: str, default: str, low: float, high: float) -> float:
    text = environment.get(name) or default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise _invalid(f"{name} must be a number from {low:g} to {high:g}, not {text!r}")
    return value


def _invalid(message: str) -> WorkloadError:
    return WorkloadError(Failure.INVALID_SPEC, message, terminal=True)
