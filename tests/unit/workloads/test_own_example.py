"""examples/03-own-network as its pod runs it: checked, trained, published, served; each step a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lepton_workloads.contract.artifact import Lineage
from lepton_workloads.contract.outcome import Outcome, Report, TrainResult, parse_outcome
from lepton_workloads.contract.own_code import OwnCodeTask
from lepton_workloads.own.report import Follower
from lepton_workloads.report import ReportServer
from lepton_workloads.serve.version import engine_loader, read_signature

from .conftest import Pod

EXAMPLE = Path(__file__).parents[3] / "examples" / "03-own-network"
WORKLOADS = Path(sys.modules["lepton_workloads"].__path__[0]).parent


def example(kind: str) -> dict[str, Any]:
    manifests = (yaml.safe_load(path.read_text()) for path in sorted(EXAMPLE.glob("*.yaml")))
    return next(one for one in manifests if one["kind"] == kind)


class OwnPod:
    """The folders of a pod of own code, and its containers as processes."""

    def __init__(self, pod: Pod, epochs: int) -> None:
        self.root = pod.root
        self.models = pod.models
        self.code = pod.root / "train.py"
        self.code.write_text(example("ConfigMap")["data"]["train.py"])
        pod.use_digits()
        picture = example("LeptonDataset")["spec"]["image"]
        result = pod.prepare(builtin="digits", sourcePath=None, picture=picture).prepare
        assert result is not None
        (self.root / "lepton/dataset").symlink_to(pod.datasets / result.key)
        for folder in ("output", "progress"):
            (self.root / "lepton" / folder).mkdir()
        spec = example("LeptonTrainingJob")["spec"]
        self.task = OwnCodeTask.model_validate(
            {
                "job": "ns/own",
                "jobUid": "job-1",
                "attempt": 1,
                "workers": 1,
                "datasetName": "grey-digits",
                "datasetKey": result.key,
                "code": spec["network"]["custom"],
                "training": spec["training"] | {"epochs": epochs},
                "gate": spec["evaluation"]["gate"],
            }
        )

    def lepton(self, module: str) -> tuple[int, Outcome]:
        """Exit code and outcome of one of Lepton's containers."""
        ended = self._run(["-m", f"lepton_workloads.own.{module}"], LEPTON_TASK=self.task.to_json())
        outcome = parse_outcome((self.root / "termination").read_text())
        assert outcome is not None, ended.stdout
        return ended.returncode, outcome

    def train(self, epochs: int, attempt: int = 1) -> str:
        """What own code printed; it must end well."""
        folder = self.root / "lepton"
        told = {
            "JOB": self.task.job,
            "JOB_UID": self.task.job_uid,
            "ATTEMPT": str(attempt),
            "WORKER_INDEX": "0",
            "WORKERS": "1",
            "PEERS": "localhost",
            "STARTUP_DEADLINE_SECONDS": "60",
            "DATASET_DIR": str(folder / "dataset"),
            "CHECKPOINTS_DIR": str(folder / "checkpoints/own"),
            "OUTPUT_DIR": str(folder / "output"),
            "PROGRESS_FILE": str(folder / "progress/progress.json"),
            "PUBLISHED_FILE": str(folder / "progress/published"),
            "ERROR_FILE": str(self.root / "termination"),
            "TRAINING": self.task.training.model_copy(update={"epochs": epochs}).to_json(),
            "SEED": str(self.task.training.seed),
        }
        ended = self._run([str(self.code)], **{f"LEPTON_{name}": value for name, value in told.items()})
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def _run(self, command: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
        common = {"PYTHONPATH": str(WORKLOADS), "LEPTON_THREADS": "1", "LEPTON_POD_UID": "pod-1"}
        return subprocess.run(
            [sys.executable, *command],
            env={**os.environ, **common, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def report(self) -> Report:
        """What the report's container makes of the progress."""
        server = ReportServer(Report(owner_uid="job-1", epochs=2), port=0)
        with server:
            Follower(self.root / "lepton/progress/progress.json", server, 2).look()
        return server.current


def test_the_example_trains_goes_on_publishes_and_is_served(pod: Pod) -> None:
    own = OwnPod(pod, epochs=4)
    assert own.lepton("check")[0] == 0
    assert "Goes on" not in own.train(epochs=2)
    report = own.report()
    assert (report.phase, report.epoch, [row.epoch for row in report.history]) == ("Done", 2, [1, 2])
    assert report.images_per_second
    # Another pod of the same job: an empty output, the same checkpoints.
    for path in (own.root / "lepton/output").iterdir():
        path.unlink()
    assert "Goes on after epoch 2" in own.train(epochs=4, attempt=2)
    code, outcome = own.lepton("publish")
    assert code == 0, outcome
    assert outcome.train is not None
    check_version(own, outcome.train)
    # The report was lost: the next pod's own code ends at once, and the version is told of again.
    assert own.lepton("check")[0] == 0
    assert "is there already" in own.train(epochs=4, attempt=3)
    assert own.lepton("publish")[1].train == outcome.train.model_copy(update={"recovered": True})


def check_version(own: OwnPod, result: TrainResult) -> None:
    assert (result.epochs, result.gate_value) == (4, result.test_accuracy)
    assert result.test_accuracy > 0.5
    assert result.tensorflow.startswith("2.")
    folder = own.models / result.digest
    assert [path.name for path in own.models.iterdir()] == [result.digest]
    lineage = Lineage.model_validate_json((folder / "lineage.json").read_text())
    assert lineage.network["type"] == "custom"
    assert (lineage.image, lineage.dataset_key) == (own.task.code.image, own.task.dataset_key)
    assert json.loads((folder / "result.json").read_text())["perLabel"]["7"]["recall"] >= 0
    signature = read_signature(folder)
    assert signature.labels == [str(digit) for digit in range(10)]
    (answer,) = engine_loader(folder, signature, 1)().predict(np.zeros((1, 16, 16, 1), np.float32))
    assert answer.sum() == pytest.approx(1, abs=1e-4)
