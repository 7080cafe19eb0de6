"""Folders as in a pod, below a temporary root."""

import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from lepton_workloads.builtin import extract_digits
from lepton_workloads.contract.outcome import Outcome, Report, parse_outcome
from lepton_workloads.contract.tasks import PrepareTask
from lepton_workloads.prepare.run import Preparation, main
from lepton_workloads.report import ReportServer

if TYPE_CHECKING:
    from .training import Gang


def png(seed: int, size: int = 12) -> bytes:
    """A small noisy picture."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Pod:
    """The folders of a pod, and its tasks run in this process."""

    root: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def source(self) -> Path:
        return self.root / "lepton/source"

    @property
    def datasets(self) -> Path:
        return self.root / "lepton/datasets"

    @property
    def models(self) -> Path:
        return self.root / "lepton/models"

    @property
    def checkpoints(self) -> Path:
        return self.root / "lepton/checkpoints"

    def entries(self) -> list[str]:
        """What the store of datasets holds."""
        return sorted(path.name for path in self.datasets.iterdir())

    def image_folder(self, classes: int = 3, each: int = 10, name: str = "photos") -> Path:
        """A folder with `classes` classes of `each` pictures."""
        folder = self.source / name
        for label in range(classes):
            (folder / f"class-{label}").mkdir(parents=True)
            for index in range(each):
                (folder / f"class-{label}/{index:03d}.png").write_bytes(png(label * 1000 + index))
        return folder

    def task(self, **fields: Any) -> PrepareTask:
        values = {"dataset": "ns/d", "datasetUid": "uid-1", "jobKey": "d-data-abc", "sourcePath": "photos"}
        values["picture"] = {"height": 8, "width": 8}
        return PrepareTask.model_validate({**values, **fields})

    def prepare(self, **fields: Any) -> Outcome:
        """Run index 0 as the container does, without its process."""
        self.monkeypatch.setenv("LEPTON_TASK", self.task(**fields).to_json())
        return main()

    def index(self, task: PrepareTask, index: int) -> Preparation:
        """One index of several, to be run in a thread."""
        server = ReportServer(Report(owner_uid=task.dataset_uid, index=index), port=0)
        return Preparation(task, index, server)

    def use_digits(self, samples: int | None = None) -> None:
        """Built-in digits from a small stand-in of the wheel's file: blurred numerals of a fixed seed."""
        wheel = self.root / "wheel/sklearn/datasets"
        (wheel / "data").mkdir(parents=True)
        (wheel / "descr").mkdir()
        (wheel / "descr/digits.rst").write_text("digits")
        random = np.random.default_rng(3)
        prototypes = random.integers(0, 17, (10, 64))
        labels = np.arange(1797) % 10
        noisy = np.clip(prototypes[labels] + random.integers(-4, 5, (1797, 64)), 0, 16)
        table = np.concatenate([noisy, labels[:, None]], axis=1)
        text = "\n".join(",".join(map(str, row)) for row in table.tolist())
        (wheel / "data/digits.csv.gz").write_bytes(gzip.compress(text.encode()))
        extract_digits(self.root / "wheel", self.root / "builtin/digits.npz")
        self.monkeypatch.setenv("LEPTON_BUILTIN_DIR", str(self.root / "builtin"))

    def outcome(self) -> Outcome | None:
        """What the last process of this pod wrote at its end."""
        return parse_outcome((self.root / "termination").read_text())


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """An empty pod."""
    for folder in ("source", "datasets", "models", "checkpoints"):
        (tmp_path / "lepton" / folder).mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "termination").touch()
    for name, value in {
        "LEPTON_ROOT": str(tmp_path),
        "LEPTON_TERMINATION_FILE": str(tmp_path / "termination"),
        "LEPTON_REPORT_PORT": "0",
        "LEPTON_BUILTIN_DIR": str(tmp_path / "no-builtin"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)
    return Pod(tmp_path, monkeypatch)


@pytest.fixture
def key(pod: Pod) -> str:
    """A prepared dataset of 1,797 easy pictures, mounted as in a training pod."""
    pod.use_digits()
    picture = {"height": 12, "width": 12, "channels": 1}
    result = pod.prepare(builtin="digits", sourcePath=None, picture=picture).prepare
    assert result is not None
    (pod.root / "lepton/dataset").symlink_to(pod.datasets / result.key)
    return result.key


@pytest.fixture
def gang(pod: Pod) -> Iterator["Gang"]:
    """Starts workers of one task; what still runs at the end is killed."""
    from .training import Gang

    gang = Gang(pod)
    yield gang
    gang.end()


@pytest.fixture
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """All bytes of a folder, by name."""
    return lambda folder: {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def read_json() -> Callable[[Path], Any]:
    """A JSON file's value."""
    return lambda path: json.loads(path.read_text())
