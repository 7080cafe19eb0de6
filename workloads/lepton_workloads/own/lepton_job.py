"""Lepton's contract with your own training code: one file to import or to copy, the standard library only.

In Lepton's trainer image: `from lepton_workloads.own import lepton_job as lepton`; elsewhere copy this file
beside yours: `import lepton_job as lepton`. docs/own-code.md describes what is behind it.
"""

import contextlib
import http.client
import json
import math
import mmap
import os
import platform
import re
import shutil
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

EXIT_AGAIN = 1
"""Something outside broke: another attempt may succeed."""
EXIT_TERMINAL = 3
"""The input or the program is wrong: no other attempt is made."""
REPORT_PORT = 9090
MAX_HISTORY = 32
MAX_REPORT_BYTES = 64 * 1024
REPORT_SECONDS = 1.0
"""Between two writes of the progress that tell only of steps."""

_STARTED = time.monotonic()


@dataclass(frozen=True)
class Job:
    """What this worker was told."""

    name: str
    """namespace/name of the LeptonTrainingJob."""
    uid: str
    attempt: int
    index: int
    """0 is the chief: only its output becomes the version."""
    workers: int
    peers: list[str]
    """Host name of each worker, in the order of the index."""
    threads: int
    seed: int
    training: dict[str, Any]
    """spec.training, for example job.training["batchSize"]."""
    dataset_folder: Path
    checkpoints_folder: Path
    """The whole job's: what an earlier attempt left is here."""
    output_folder: Path
    startup_deadline_seconds: float

    @property
    def is_chief(self) -> bool:
        """Whether this is the worker that saves checkpoints and the result."""
        return self.index == 0


def read_job() -> Job:
    """From the environment; KeyError names a variable that is missing outside of Lepton."""
    env = os.environ
    return Job(
        name=env["LEPTON_JOB"],
        uid=env["LEPTON_JOB_UID"],
        attempt=int(env["LEPTON_ATTEMPT"]),
        index=int(env["LEPTON_WORKER_INDEX"]),
        workers=int(env["LEPTON_WORKERS"]),
        peers=env["LEPTON_PEERS"].split(","),
        threads=int(env["LEPTON_THREADS"]),
        seed=int(env["LEPTON_SEED"]),
        training=json.loads(env["LEPTON_TRAINING"]),
        dataset_folder=Path(env["LEPTON_DATASET_DIR"]),
        checkpoints_folder=Path(env["LEPTON_CHECKPOINTS_DIR"]),
        output_folder=Path(env["LEPTON_OUTPUT_DIR"]),
        startup_deadline_seconds=float(env["LEPTON_STARTUP_DEADLINE_SECONDS"]),
    )


def end_if_published() -> None:
    """End well at once when an earlier pod of this job has published its version: nothing is left to do."""
    if os.path.exists(os.environ["LEPTON_PUBLISHED_FILE"]):
        print("The version of this job is there already: nothing to train", flush=True)
        sys.exit(0)


# -- data --------------------------------------------------------------------------------------------


class Split:
    """One split of the dataset; pictures stay on disk until they are asked for."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        """(height, width, channels) of each picture."""
        self.labels = array("i", (folder / f"{name}.labels").read_bytes())
        """Number of each picture's class; an index into Dataset.labels."""
        if sys.byteorder == "big":
            self.labels.byteswap()
        self._path = folder / f"{name}.images"
        self._file = self._path.open("rb")
        size = os.fstat(self._file.fileno()).st_size
        self._map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ) if size else b""

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, index: int) -> bytes:
        """One picture: height * width * channels bytes, row by row."""
        size = math.prod(self.shape)
        return bytes(self._map[index * size : (index + 1) * size])

    def arrays(self) -> tuple[Any, Any]:
        """NumPy arrays: pictures (N, height, width, channels) uint8, mapped and not read; labels (N,) int32."""
        import numpy as np

        if not len(self):
            return np.zeros((0, *self.shape), np.uint8), np.zeros(0, np.int32)
        images = np.frombuffer(self._map, np.uint8).reshape(-1, *self.shape)
        return images, np.frombuffer(self.labels, np.int32)


class Dataset:
    """The prepared dataset."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        picture, normalization = manifest["picture"], manifest["normalization"]
        self.labels: list[str] = manifest["labels"]
        """Names of the classes."""
        self.shape = (picture["height"], picture["width"], picture["channels"])
        self.scale: float = normalization["scale"]
        self.offset: float = normalization["offset"]
        self._folder = folder

    def split(self, name: str) -> Split:
        """`train`, `validation` (may be empty) or `test`, which judges and is never trained on."""
        return Split(self._folder, name, self.shape)

    def normalize(self, pictures: Any) -> Any:
        """float32 as the served network will see them: pixel * scale + offset. NumPy arrays only."""
        import numpy as np

        return pictures.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)


# -- progress ----------------------------------------------------------------------------------------

_progress: dict[str, Any] = {}
_written = -math.inf


def report_progress(**figures: Any) -> None:
    """Tell where the program stands; what is left out stays as it was told last.

    Fields: phase (a capital letter first), epoch (finished ones), epochs, step, steps, loss, accuracy,
    images_per_second, learning_rate, images, eta_seconds. Call it as often as you like: steps are written once a
    second.
    """
    global _written
    told = {_camel(name): _finite(value) for name, value in figures.items()}
    steps_only = bool(told) and set(told) <= {"step", "loss", "accuracy", "images", "imagesPerSecond"}
    _progress.update(told)
    if steps_only and time.monotonic() - _written < REPORT_SECONDS:
        return
    _written = time.monotonic()
    _write(Path(os.environ["LEPTON_PROGRESS_FILE"]), _progress)


def report_epoch(
    epoch: int, *, loss: float, accuracy: float, seconds: float, images: int, **more: float
) -> None:
    """Tell of a finished epoch, counted from 1; `images` are those of the whole gang in this epoch.

    `more`: validation_loss, validation_accuracy, learning_rate.
    """
    rate = images / seconds if seconds > 0 else 0.0
    row = {"epoch": epoch, "loss": loss, "accuracy": accuracy, "seconds": seconds, "imagesPerSecond": rate}
    row |= {_camel(name): value for name, value in more.items()}
    if all(math.isfinite(value) for value in (loss, accuracy, seconds)):
        rows = [one for one in _progress.get("history", []) if one["epoch"] != epoch]
        kept = {name: plain for name, value in row.items() if (plain := _finite(value)) is not None}
        _progress["history"] = [*rows, kept][-MAX_HISTORY:]
    _progress["images"] = _progress.get("images", 0) + images
    epochs = _progress.get("epochs") or json.loads(os.environ["LEPTON_TRAINING"]).get("epochs", epoch)
    report_progress(
        epoch=epoch,
        step=0,
        loss=loss,
        accuracy=accuracy,
        images_per_second=rate,
        eta_seconds=max(0, epochs - epoch) * seconds,
    )


# -- failures ----------------------------------------------------------------------------------------


def fail(reason: str, message: str, *, terminal: bool = True) -> NoReturn:
    """End this worker, and with it the attempt, for a reason that the job's status shows.

    Args:
        reason: one word, such as InvalidData, InvalidSpec or Diverged.
        message: a sentence that says what to do.
        terminal: False when another attempt may succeed.
    """
    line = json.dumps({"reason": reason, "message": message[:1000], "terminal": terminal})
    Path(os.environ["LEPTON_ERROR_FILE"]).write_text(line + "\n", encoding="utf-8")
    print(f"{reason}: {message}", file=sys.stderr, flush=True)
    sys.exit(EXIT_TERMINAL if terminal else EXIT_AGAIN)


def check_finite(loss: float, epoch: int, step: int | None = None) -> None:
    """Fail with Diverged when the loss is no number any more."""
    if not math.isfinite(loss):
        where = f"epoch {epoch}" if step is None else f"step {step} of epoch {epoch}"
        fail("Diverged", f"the loss is {loss} in {where}: lower training.learningRate")


# -- workers -----------------------------------------------------------------------------------------


def wait_for_peers(job: Job) -> None:
    """Return when the program of every worker of this attempt has come here; fail with PeersNotReady else.

    A library that meets its peers (TensorFlow by TF_CONFIG) should start only then: it would wait for very long.
    """
    report_progress(phase="Waiting")
    end = time.monotonic() + job.startup_deadline_seconds
    missing = [index for index in range(job.workers) if index != job.index]
    while missing := [index for index in missing if not _is_there(job, job.peers[index])]:
        if time.monotonic() > end:
            names = ", ".join(str(index) for index in missing[:10])
            text = f"workers {names} did not start within {job.startup_deadline_seconds:.0f} s"
            fail("PeersNotReady", f"{text}: see why their pods don't run", terminal=False)
        time.sleep(0.5)


def wait_for_chief(job: Job) -> None:
    """Return when the chief has saved its result or is gone; for the other workers of a TensorFlow gang.

    TensorFlow fails on the chief when a worker leaves before it.
    """
    misses = 0
    while job.index and misses < 3:
        report = _report_of(job, job.peers[0])
        if report is not None and report["phase"] == "Done":
            return
        misses = misses + 1 if report is None else 0
        time.sleep(0.5)


def _is_there(job: Job, peer: str) -> bool:
    report = _report_of(job, peer)
    return report is not None and report["phase"] != "Starting"


def _report_of(job: Job, peer: str) -> dict[str, Any] | None:
    """What a worker of this attempt reports; None when it doesn't answer, or another pod does."""
    host, _, port = peer.partition(":")
    connection = http.client.HTTPConnection(host, int(port or REPORT_PORT), timeout=2.0)
    try:
        connection.request("GET", "/report")
        report: dict[str, Any] = json.loads(connection.getresponse().read(MAX_REPORT_BYTES))
        same = (report["ownerUid"], report["attempt"]) == (job.uid, job.attempt)
        return report if same and isinstance(report["phase"], str) else None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()


# -- checkpoints and the result ----------------------------------------------------------------------


@contextlib.contextmanager
def new_checkpoint(job: Job, name: str, keep: int = 2) -> Iterator[Path]:
    """A path to write a checkpoint to, a file or a folder; it appears whole under its name, or not at all.

    Names differ in a number that sorts, such as epoch-0003.keras; the last `keep` of them stay.
    """
    temporary = job.checkpoints_folder / f".tmp-{name}"
    _remove(temporary)
    yield temporary
    for path in (temporary, *temporary.rglob("*")):
        _sync(path)
    os.replace(temporary, job.checkpoints_folder / name)
    _sync(job.checkpoints_folder)
    for path in checkpoints(job, re.sub("[0-9]+", "*", name))[:-keep]:
        _remove(path)


def checkpoints(job: Job, pattern: str = "*") -> list[Path]:
    """Whole checkpoints of this job, of all its attempts, the newest last."""
    return sorted(path for path in job.checkpoints_folder.glob(pattern) if not path.name.startswith("."))


def save_result(job: Job, **figures: Any) -> None:
    """Write result.json: the last thing that the chief does, once its model is in job.output_folder.

    Needed: test_accuracy, test_loss, train_accuracy, train_loss, epochs. May be given: validation_accuracy,
    validation_loss, precision, recall, f1, top_k_accuracy, expected_calibration_error, best_epoch, stopped_early,
    parameters, weights_digest, code_version, per_label ({"7": {"recall": 0.9}}).

    Raises:
        ValueError: a figure is NaN or infinite.
    """
    versions = {
        name: str(getattr(sys.modules[name], "__version__", "unknown"))
        for name in ("tensorflow", "keras")
        if name in sys.modules
    }
    result: dict[str, Any] = {"seconds": time.monotonic() - _STARTED, "python": platform.python_version()}
    result |= versions | figures
    _write(job.output_folder / "result.json", {_camel(name): value for name, value in result.items()})
    report_progress(phase="Done")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _finite(value: Any) -> Any:
    """JSON has no NaN: a figure that is none is left out. Numbers of NumPy and TensorFlow become plain ones."""
    if value is None or isinstance(value, (str, int, list, dict)):
        return value
    return float(value) if math.isfinite(value) else None


def _write(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all: it may be read at any time."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, allow_nan=False, default=float), encoding="utf-8")
    os.replace(temporary, path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
