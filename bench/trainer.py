"""One training in a process of its own: by the trainer's loop, alone or as a worker of a gang, or by plain `model.fit`.

Prints one line of JSON, a `Taken`. Times are those of the later epochs: the first one also traces and compiles.
"""

import dataclasses
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from lepton_workloads.train.data import Dataset

SAMPLES = 2048
CLASSES = 10
EPOCHS = 4
SHAPE = (32, 32, 3)
AUGMENT = {"flip": "horizontal", "rotateDegrees": 10, "shift": 0.1}
LABELS = [str(number) for number in range(CLASSES)]


@dataclass(frozen=True)
class Run:
    """What is trained: the network of the examples on generated pictures of 32 x 32 x 3."""

    how: Literal["loop", "fit"] = "loop"
    threads: int = 1
    batch: int = 64
    """Global."""
    augment: bool = False
    precision: str = "float32"
    jit: bool = False
    cores: tuple[int, ...] = ()
    """CPUs it may run on; all when empty."""
    ports: tuple[int, ...] = ()
    """One for each worker of a gang; none for one worker."""
    index: int = 0

    def to_json(self) -> str:
        """For `read`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def read(cls, text: str) -> "Run":
        """From `to_json`."""
        values = json.loads(text)
        told: dict[str, Any] = {
            name: tuple(held) if isinstance(held, list) else held for name, held in values.items()
        }
        return cls(**told)


@dataclass(frozen=True)
class Taken:
    """What the measured epochs took."""

    images: int
    """Of the whole gang."""
    steps: int
    seconds: float
    cpu: float
    """Seconds of this process."""
    memory: float
    """MiB, peak resident size of the process from start to end."""

    @property
    def rate(self) -> float:
        """Images in a second."""
        return self.images / self.seconds

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.seconds / self.steps


@dataclass
class Clock:
    """Stands where the gang watch does: hears of each step, and of what follows an epoch."""

    beats: list[tuple[float, float]] = field(default_factory=list)
    """(time, CPU time) in seconds."""

    def beat(self) -> None:
        """Something was done."""
        self.beats.append((time.monotonic(), time.process_time()))

    def taken(self, steps_per_epoch: int, samples: int) -> Taken:
        """From the last step of the first epoch to that of the last; an epoch beats once more at its end."""
        first, last = (steps_per_epoch + epochs * (steps_per_epoch + 1) - 1 for epochs in (0, EPOCHS - 1))
        (start, start_cpu), (end, end_cpu) = self.beats[first], self.beats[last]
        epochs = EPOCHS - 1
        return Taken(
            epochs * samples, epochs * steps_per_epoch, end - start, end_cpu - start_cpu, peak_memory()
        )


def peak_memory() -> float:
    """MiB that this process had in memory at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    """Train as told on the command line."""
    run = Run.read(sys.argv[1])
    if run.cores:
        os.sched_setaffinity(0, run.cores)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tmp", "lepton/checkpoints"):
            Path(folder, name).mkdir(parents=True)
        os.environ.update({"LEPTON_ROOT": folder, "LEPTON_THREADS": str(run.threads)})
        from lepton_workloads.train.run import set_up_environment

        set_up_environment()
        taken = _by_loop(run, Path(folder)) if run.how == "loop" else _by_fit(run)
    print(json.dumps(dataclasses.asdict(taken)), flush=True)
    # TensorFlow's gang has nothing to say any more, and its end would wait for the other worker.
    os._exit(0)


def _by_loop(run: Run, folder: Path) -> Taken:
    from lepton_workloads.contract.outcome import Report
    from lepton_workloads.contract.tasks import TrainTask
    from lepton_workloads.report import ReportServer
    from lepton_workloads.train.checkpoint import Checkpoints
    from lepton_workloads.train.stop import Stop
    from lepton_workloads.train.watch import GangWatch

    workers = max(len(run.ports), 1)
    peers = [f"127.0.0.1:{port}" for port in run.ports] or ["localhost"]
    training = {
        "epochs": EPOCHS,
        "batchSize": run.batch,
        "precision": run.precision,
        "jitCompile": run.jit,
        **({"augment": AUGMENT} if run.augment else {}),
    }
    task = TrainTask.model_validate(
        {
            "job": "bench/bench",
            "jobUid": "bench",
            "attempt": 1,
            "workers": workers,
            "peers": peers,
            "datasetName": "bench",
            "datasetKey": "0" * 64,
            "training": training,
            "checkpoint": {"everyEpochs": 100_000},
            "image": "bench",
        }
    )
    if workers > 1:
        from lepton_workloads.train.gate import tf_config

        os.environ["TF_CONFIG"] = tf_config(peers, run.index)
    from lepton_workloads.train import runtime

    strategy = runtime.start(task, run.threads)
    from lepton_workloads.train.loop import Helpers, Loop

    clock = Clock()
    with ReportServer(Report(owner_uid="bench", index=run.index), port=0) as server:
        helpers = Helpers(server, Checkpoints(task), cast(GangWatch, clock), Stop())
        loop = Loop(task, run.index, _dataset(folder), strategy, helpers)
        loop.run()
        return clock.taken(loop.steps_per_epoch, SAMPLES)


def _by_fit(run: Run) -> Taken:
    """As one would write it by hand: arrays of floats, normalised before."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(run.threads)
    tf.config.threading.set_inter_op_parallelism_threads(run.threads)
    from lepton_workloads.contract.data import Picture
    from lepton_workloads.contract.network import Cnn
    from lepton_workloads.train.network import build_network

    images, labels = _pictures()
    floats = images.astype("float32") / 255
    del images
    model = build_network(Cnn(), Picture(), CLASSES)
    if run.augment:
        changes = [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(10 / 360, fill_mode="constant"),
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant"),
        ]
        model = keras.Sequential([keras.Input(SHAPE), *changes, model])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    end = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: clock.beat())
    model.fit(floats, labels, batch_size=run.batch, epochs=EPOCHS, verbose=0, callbacks=[end])
    (start, start_cpu), (stop, stop_cpu) = clock.beats[0], clock.beats[-1]
    images_taken = (EPOCHS - 1) * SAMPLES
    return Taken(images_taken, images_taken // run.batch, stop - start, stop_cpu - start_cpu, peak_memory())


def _pictures() -> tuple[Any, Any]:
    """uint8 pictures (SAMPLES, 32, 32, 3) and their labels: noise around one picture for each class."""
    import numpy as np

    random = np.random.default_rng(7)
    labels = (np.arange(SAMPLES) % CLASSES).astype(np.int32)
    means = random.integers(64, 192, (CLASSES, *SHAPE))
    images = means[labels] + random.integers(-64, 64, (SAMPLES, *SHAPE))
    return images.astype(np.uint8), labels


def _dataset(folder: Path) -> "Dataset":
    """The same pictures as a prepared dataset has them: in a file."""
    import numpy as np

    from lepton_workloads.contract.data import DatasetManifest, Normalization, Picture, SplitInfo, SplitName
    from lepton_workloads.train.data import Dataset, SplitData

    images, labels = _pictures()
    path = folder / "train.images"
    images.tofile(path)
    mapped = np.memmap(path, np.uint8, "r", shape=images.shape)
    splits = {name: SplitData(images[:0].copy(), labels[:0].copy()) for name in SplitName}
    splits[SplitName.TRAIN] = SplitData(mapped, labels)
    manifest = DatasetManifest(
        key="0" * 64,
        labels=LABELS,
        picture=Picture(),
        normalization=Normalization(),
        decoder="bench",
        splits={name: SplitInfo(samples=len(split), per_class=[]) for name, split in splits.items()},
        checksums={},
    )
    return Dataset(manifest, splits)


if __name__ == "__main__":
    main()
