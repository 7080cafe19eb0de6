"""Workers of a training as processes of their own, as in a pod."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lepton_workloads.contract.outcome import Outcome, TrainResult, parse_outcome
from lepton_workloads.contract.tasks import TrainTask
from tests.ports import free_ports

from .conftest import Pod

DEADLINE_SECONDS = 600
SMALL = {"convolutions": [6], "dense": [16]}
Process = subprocess.Popen[str]
Lines = list[dict[str, Any]]


def task_of(key: str, **fields: Any) -> TrainTask:
    """A task on the dataset `key`: two short epochs of a small network."""
    values = {
        "job": "ns/j",
        "jobUid": "job-1",
        "attempt": 1,
        "workers": 1,
        "peers": ["localhost"],
        "datasetName": "d",
        "datasetKey": key,
        "network": SMALL,
        "training": {"epochs": 2, "batchSize": 64, "learningRate": 0.01},
        "image": "trainer:1",
        "startupDeadlineSeconds": 120,
    }
    return TrainTask.model_validate({**values, **fields})


def start(pod: Pod, task: TrainTask, index: int = 0, port: int = 0, uid: str | None = None) -> Process:
    """A worker as a process; its outcome goes to `termination-<index>`."""
    workloads = Path(sys.modules["lepton_workloads"].__path__[0]).parent
    environment = {
        **os.environ,
        "PYTHONPATH": str(workloads),
        "LEPTON_TASK": task.to_json(),
        "JOB_COMPLETION_INDEX": str(index),
        "LEPTON_TERMINATION_FILE": str(pod.root / f"termination-{index}"),
        "LEPTON_REPORT_PORT": str(port),
        "LEPTON_THREADS": "1",
        "LEPTON_POD_UID": uid or f"pod-{index}",
    }
    (pod.root / f"termination-{index}").unlink(missing_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "lepton_workloads.train"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def outcome_of(pod: Pod, index: int = 0) -> Outcome:
    """What a worker wrote at its end."""
    outcome = parse_outcome((pod.root / f"termination-{index}").read_text())
    assert outcome is not None
    return outcome


def finish(process: Process) -> Lines:
    """Wait for the end; the log lines that were not read yet."""
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    return [json.loads(line) for line in output.splitlines()]


def train(pod: Pod, task: TrainTask) -> tuple[int, Outcome, Lines]:
    """Exit code, outcome and log lines of one worker."""
    process = start(pod, task)
    lines = finish(process)
    return process.returncode, outcome_of(pod), lines


def trained(pod: Pod, task: TrainTask) -> TrainResult:
    """The result of one worker that is to succeed."""
    code, outcome, _ = train(pod, task)
    assert code == 0, outcome
    assert outcome.train is not None
    return outcome.train


def was_told(process: Process, message: str, **fields: Any) -> dict[str, Any]:
    """Read log lines up to one whose message begins so and that has those fields.

    Raises:
        AssertionError: the process ended without it, or was killed for it did not say it within DEADLINE_SECONDS.
    """
    assert process.stdout is not None
    timer = threading.Timer(DEADLINE_SECONDS, process.kill)
    timer.start()
    try:
        for text in process.stdout:
            line: dict[str, Any] = json.loads(text)
            if line["message"].startswith(message) and fields.items() <= line.items():
                return line
    finally:
        timer.cancel()
    raise AssertionError(f"the process ended and never said {message!r}")


def report_ports(count: int = 2) -> list[int]:
    """Report ports of workers, each with the next port free for TensorFlow."""
    return free_ports(count, following=1)


@dataclass
class Gang:
    """Starts workers; what still runs at the end of a test is killed."""

    pod: Pod
    processes: list[Process] = field(default_factory=list)

    def __call__(self, key: str, workers: int = 2, uid: str = "pod", **fields: Any) -> list[Process]:
        """All workers of one task, on this host."""
        ports = report_ports(workers)
        peers = [f"127.0.0.1:{port}" for port in ports]
        task = task_of(key, workers=workers, peers=peers, **fields)
        return self.start([task] * workers, ports, uid)

    def start(self, tasks: list[TrainTask], ports: list[int], uid: str = "pod") -> list[Process]:
        """Each worker with a task of its own."""
        started = [
            start(self.pod, task, index, port, f"{uid}-{index}")
            for index, (task, port) in enumerate(zip(tasks, ports, strict=True))
        ]
        self.processes += started
        return started

    def end(self) -> None:
        """Kill all."""
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
