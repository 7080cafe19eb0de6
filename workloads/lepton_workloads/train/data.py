"""Prepared pictures: opened, checked, and given out in batches that every worker can compute alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from lepton_workloads.contract.data import MANIFEST_FILE, DatasetManifest, SplitInfo, SplitName
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.tasks import Fold
from lepton_workloads.storage import sha256_of
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.pictures import Pixels, Selected

# The order of an epoch depends on these, so they don't follow the machine: weights are to be the same everywhere.
MAX_SHUFFLED = 1024**3
"""Bytes up to which a split is ordered as a whole."""
WINDOW = 256 * 1024**2
"""Bytes among which a larger split is shuffled."""
BLOCK = 1024**2
"""Bytes of neighbours that stay in one window."""


class Batch(NamedTuple):
    """One worker's part of a global batch; B is the local batch size, the same for all batches."""

    images: Any
    """(B, height, width, channels): uint8, or what was made of it on the way; an array or a tensor, as all here."""
    labels: Any
    """int32 (B,)"""
    weights: Any
    """float32 (B,), 1 for a picture, 0 for padding."""
    pictures: int
    """Pictures in the global batch, over all workers."""
    samples: Any
    """int64 (B,), index of each picture in its split."""


class Plan(NamedTuple):
    """Which pictures one worker sees in each of S steps; B is the local batch size."""

    samples: npt.NDArray[np.int64]
    """(S, B)"""
    weights: npt.NDArray[np.float32]
    """(S, B), 1 for a picture, 0 for padding."""
    pictures: list[int]
    """Pictures in each global batch, over all workers."""

    def part(self, first: int, end: int) -> "Plan":
        """Some of the steps."""
        return Plan(self.samples[first:end], self.weights[first:end], self.pictures[first:end])


def plan(
    order: npt.NDArray[np.int64], batch_size: int, workers: int = 1, index: int = 0, start: int = 0
) -> Plan:
    """Worker `index`'s slice of each global batch of `batch_size`, from step `start` on.

    Every worker gets as many batches. A short last batch is filled at weight 0 with the pictures that the order begins
    with, so that shapes never change, no worker is without a batch, and batch normalisation sees pictures as they are.
    """
    steps = math.ceil(len(order) / batch_size)
    shape = (steps, workers, batch_size // workers)
    samples = np.resize(order, steps * batch_size).reshape(shape)[start:, index]
    weights = (np.arange(steps * batch_size) < len(order)).astype(np.float32).reshape(shape)[start:, index]
    pictures = [min(batch_size, len(order) - step * batch_size) for step in range(start, steps)]
    return Plan(samples, weights, pictures)


@dataclass(frozen=True, eq=False)
class SplitData:
    """One split; the pictures stay in their file until a batch takes them."""

    images: Pixels | Selected
    """uint8 (N, height, width, channels), memory-mapped."""
    labels: npt.NDArray[np.int32]
    """(N,)"""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def picture_bytes(self) -> int:
        """Of one picture."""
        return int(np.prod(self.images.shape[1:]))

    def batches(
        self,
        order: npt.NDArray[np.int64],
        batch_size: int,
        workers: int = 1,
        index: int = 0,
        start: int = 0,
    ) -> Iterator[Batch]:
        """The batches of a `plan`, as arrays."""
        rows = plan(order, batch_size, workers, index, start)
        for samples, weights, pictures in zip(*rows, strict=True):
            yield Batch(self.images[samples], self.labels[samples], weights, pictures, samples)

    def order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """The order of epoch `epoch` (0-based): a function of seed, epoch and the split's size, nothing else.

        A permutation; of a large split one of blocks, shuffled in a window, so that it can be read in large pieces.
        """
        if len(self) * self.picture_bytes <= MAX_SHUFFLED:
            return epoch_order(len(self), seed, epoch)
        block, window = (max(size // self.picture_bytes, 1) for size in (BLOCK, WINDOW))
        return window_order(len(self), seed, epoch, block, window)


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset."""

    manifest: DatasetManifest
    splits: dict[SplitName, SplitData]

    def fold(self, fold: Fold, seed: int) -> "Dataset":
        """One fold of train and validation together: its part is held out as validation; there is no test split.

        The parts are drawn per class with a seed, so that each has its share of every class.

        Raises:
            WorkloadError: InvalidSpec, when a part would be empty.
        """
        sources = [self.splits[SplitName.TRAIN], self.splits[SplitName.VALIDATION]]
        labels = np.concatenate([source.labels for source in sources])
        held_out = fold_parts(labels, fold.folds, seed) == fold.index
        if not held_out.any() or held_out.all():
            text = (
                f"{len(labels)} pictures are too few for {fold.folds} folds: ask for fewer folds in a new job"
            )
            raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True)
        images = tuple(source.images for source in sources)
        splits = {
            name: SplitData(Selected(images, np.flatnonzero(rows)), labels[rows])
            for name, rows in (
                (SplitName.TRAIN, ~held_out),
                (SplitName.VALIDATION, held_out),
                (SplitName.TEST, np.zeros_like(held_out)),
            )
        }
        classes = len(self.manifest.labels)
        infos = {
            name: SplitInfo(
                samples=len(split), per_class=np.bincount(split.labels, minlength=classes).tolist()
            )
            for name, split in splits.items()
        }
        return Dataset(self.manifest.model_copy(update={"splits": infos}), splits)


def fold_parts(labels: npt.NDArray[np.int32], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Number of the part of each sample, int64 (N,): dealt out class after class in a seeded order."""
    order = np.random.Generator(np.random.PCG64([seed, 0xF01D])).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    parts = np.empty(len(labels), np.int64)
    parts[by_class] = np.arange(len(labels)) % folds
    return parts


def epoch_order(samples: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of epoch `epoch` (0-based): a permutation of (seed, epoch), the same on every worker."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(samples)


def window_order(samples: int, seed: int, epoch: int, block: int, window: int) -> npt.NDArray[np.int64]:
    """Blocks of neighbours in a seeded order, then all samples shuffled among `window` of that order at a time.

    So samples that are near in the order are near in few places of the file.
    """
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    blocks = random.permutation(math.ceil(samples / block))
    order: npt.NDArray[np.int64] = (blocks[:, None] * block + np.arange(block)).ravel()
    order = order[order < samples]
    for start in range(0, samples, window):
        random.shuffle(order[start : start + window])
    return order


def open_dataset(folder: Path, key: str) -> Dataset:
    """Open a prepared dataset and check every byte of it.

    Raises:
        WorkloadError: DatasetNotReady (not there, or another one), InvalidData (damaged).
    """
    manifest = _manifest(folder, key)
    for name, expected in manifest.checksums.items():
        try:
            found = sha256_of(folder / name)
        except FileNotFoundError:
            found = "nothing"
        if found != expected:
            raise _damaged(key, f"sha256 of {name} is {found}, the manifest says {expected}")
    shape = (manifest.picture.height, manifest.picture.width, manifest.picture.channels)
    splits = {}
    for split in SplitName:
        samples = manifest.splits[split].samples
        labels = np.fromfile(folder / f"{split}.labels", "<i4").astype(np.int32)
        path = folder / f"{split}.images"
        size = samples * int(np.prod(shape))
        if len(labels) != samples or path.stat().st_size != size:
            raise _damaged(key, f"the {split} split does not hold {samples} pictures")
        empty = np.zeros((0, *shape), np.uint8)  # an empty file can't be mapped
        images = np.memmap(path, np.uint8, "r", shape=(samples, *shape)) if samples else empty
        splits[split] = SplitData(images, labels)
    return Dataset(manifest, splits)


def _manifest(folder: Path, key: str) -> DatasetManifest:
    try:
        manifest = DatasetManifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        text = f"the prepared dataset {key[:12]} is not in the store: it was removed or is on another claim"
        raise WorkloadError(Failure.DATASET_NOT_READY, text, terminal=False) from error
    except ValidationError as error:
        raise _damaged(key, f"{MANIFEST_FILE} can't be read") from error
    if manifest.key != key:
        text = f"the store holds dataset {manifest.key[:12]} where {key[:12]} was expected"
        raise WorkloadError(Failure.DATASET_NOT_READY, text, terminal=False)
    return manifest


def _damaged(key: str, why: str) -> WorkloadError:
    text = f"the prepared dataset {key[:12]} is damaged: {why}; delete its folder and prepare it again"
    return WorkloadError(Failure.INVALID_DATA, text, terminal=True)
