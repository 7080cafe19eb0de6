"""Workers of a training as a test meets them: their pods, their log lines, their processes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.e2e.cluster import Namespace, Object, until


def pods_of(namespace: Namespace, job: str, attempt: int = 1) -> list[Object]:
    """Pods of an attempt, by index; those of folds are not meant."""
    kind = f"lepton.ai/name={job},lepton.ai/kind=LeptonTrainingJob"
    selector = f"{kind},lepton.ai/attempt={attempt},!lepton.ai/fold"
    index = "batch.kubernetes.io/job-completion-index"
    return sorted(
        namespace.list("pods", selector), key=lambda pod: int(pod["metadata"]["annotations"][index])
    )


def log_of(namespace: Namespace, pod: Object, message: str) -> list[dict[str, Any]]:
    """Lines of a worker's log with that message."""
    lines = namespace.run("logs", pod["metadata"]["name"]).splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in told if line["message"] == message]


def epoch(namespace: Namespace, job: str) -> int:
    """Finished epochs, as the status says."""
    progress = namespace.get("ltj", job).get("status", {}).get("progress", {})
    return int(progress.get("epoch", "0/").partition("/")[0])


def until_epoch(namespace: Namespace, job: str, number: int = 2) -> None:
    """Waits until so many epochs are done."""
    until(lambda: epoch(namespace, job) >= number, f"epoch {number} of {job}", 180)


def send(number: signal.Signals, pod: Object) -> None:
    """A signal to the process of a worker; the containers of the test's own cluster are processes of this machine."""
    variable = f"LEPTON_POD_UID={pod['metadata']['uid']}".encode()
    found = [pid for pid in Path("/proc").glob("[0-9]*") if variable in _environment(pid)]
    assert found, f"no process of pod {pod['metadata']['name']}"
    for pid in found:
        os.kill(int(pid.name), number)


def _environment(pid: Path) -> list[bytes]:
    try:
        return (pid / "environ").read_bytes().split(b"\0")
    except OSError:  # it has just ended
        return []
