"""Batches on their way to the training thread: read, normalised and changed beside it, without Python in between.

A split that fits in memory is read once and kept as uint8. Of a larger one some steps' pictures at a time are read
ahead: whatever the order, never more than the bound is held. All that is random is in the order and in `prepare`, so
the same arguments give the same batches, from any step on.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lepton_workloads.contract.data import Normalization
from lepton_workloads.contract.tasks import THREADS_ENV
from lepton_workloads.contract.training import Augment
from lepton_workloads.storage import storage_errors
from lepton_workloads.train.augment import make_augment
from lepton_workloads.train.data import Batch, Plan, SplitData, plan
from lepton_workloads.train.pictures import read_pictures

DEFAULT_BOUND = 1024**3
"""Bytes of one split that are kept in memory where no limit is known."""
LIMIT_SHARE = 4
"""With a memory limit it is one part in so many: TensorFlow and the network need the rest."""
CHUNKS = 4
"""Parts of a bound: one is in use, one is ready, one is read."""
AHEAD = 2
"""Batches that are ready before they are asked for."""
LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""The container's limit in cgroup v2 and v1."""

Prepare = Callable[[Any, Any], Any]
"""images, uint8 (B, height, width, channels), and samples, int64 (B,) -> what the network is given."""

_kept: WeakKeyDictionary[SplitData, Any] = WeakKeyDictionary()
"""Pictures of the splits that fit in memory, for as long as somebody has the split."""


class Preparation:
    """What happens to a batch of pictures before the network: changes at random, then normalisation.

    The functions are traced once, not in every epoch.
    """

    def __init__(self, normalization: Normalization, augment: Augment | None, seed: int) -> None:
        self._normalization = normalization
        self._change = make_augment(augment, seed) if augment else None
        self._train = tf.function(self._changed, autograph=False)
        self._plain = tf.function(self._normalized, autograph=False)

    def training(self, epoch: int) -> Prepare:
        """For the training pictures of epoch `epoch` (0-based)."""
        number = tf.constant(epoch, tf.int64)
        return lambda images, samples: self._train(images, samples, number)

    @property
    def judging(self) -> Prepare:
        """For pictures on which the network is judged."""
        return lambda images, samples: self._plain(images)

    def _changed(self, images: Any, samples: Any, epoch: Any) -> Any:
        if self._change is not None:
            images = self._change(tf.cast(images, tf.float32), samples, epoch)
        return self._normalized(images)

    def _normalized(self, images: Any) -> Any:
        return tf.cast(images, tf.float32) * self._normalization.scale + self._normalization.offset


def feed(
    split: SplitData,
    order: npt.NDArray[np.int64],
    batch_size: int,
    workers: int = 1,
    index: int = 0,
    *,
    start: int = 0,
    prepare: Prepare | None = None,
    bound: int | None = None,
) -> Iterator[Batch]:
    """Worker `index`'s batches of an epoch from step `start` on, as `SplitData.batches` gives them, but tensors.

    Args:
        prepare: computed in the graph, on the pipeline's threads.
        bound: bytes of pictures in memory; `memory_bound` by default.

    Raises:
        WorkloadError: StorageFailed.
    """
    rows = plan(order, batch_size, workers, index, start)
    bound = memory_bound() if bound is None else bound
    threads = int(os.environ.get(THREADS_ENV, "1"))
    failures: list[Exception] = []
    if len(split) * split.picture_bytes <= bound:
        dataset = _taken(_whole(split), *_columns(split, rows, rows.samples))
    else:
        steps = max(bound // CHUNKS // (split.picture_bytes * (batch_size // workers)), 1)
        dataset = _in_parts(split, rows, steps, failures)
    if prepare is not None:
        dataset = dataset.map(
            lambda images, labels, weights, samples: (prepare(images, samples), labels, weights, samples),
            num_parallel_calls=threads,
            deterministic=True,
        )
    dataset = dataset.prefetch(AHEAD).with_options(_options(threads))
    for (images, labels, weights, samples), pictures in zip(dataset, rows.pictures, strict=False):
        yield Batch(images, labels, weights, pictures, samples)
    if failures:
        raise failures[0]


def _columns(split: SplitData, rows: Plan, places: npt.NDArray[np.int64]) -> tuple[Any, ...]:
    """What each step takes of the pictures that are held, and what it says of them; (S, B) each."""
    return places, split.labels[rows.samples], rows.weights, rows.samples


def _taken(pictures: Any, *columns: Any) -> tf.data.Dataset:
    """The batches of steps whose pictures are held in one tensor."""
    return tf.data.Dataset.from_tensor_slices(columns).map(
        lambda places, *others: (tf.gather(pictures, places), *others)
    )


def _in_parts(split: SplitData, rows: Plan, steps: int, failures: list[Exception]) -> tf.data.Dataset:
    """The batches, of which so many steps' pictures are read at a time: one part ahead, in another thread.

    Python is called once for each part. What fails there would lose its name on the way through TensorFlow, so it
    goes to `failures`, and the batches end.
    """

    def parts() -> Iterator[tuple[Any, ...]]:
        try:
            for first in range(0, len(rows.pictures), steps):
                part = rows.part(first, first + steps)
                places = np.arange(part.samples.size).reshape(part.samples.shape)
                yield _read(split, part.samples.ravel()), *_columns(split, part, places)
        except Exception as error:
            failures.append(error)

    table = (None, rows.samples.shape[1])
    signature = (
        tf.TensorSpec((None, *split.images.shape[1:]), tf.uint8),
        *(tf.TensorSpec(table, kind) for kind in (tf.int64, tf.int32, tf.float32, tf.int64)),
    )
    return tf.data.Dataset.from_generator(parts, output_signature=signature).prefetch(1).flat_map(_taken)


def _options(threads: int) -> tf.data.Options:
    """A pool of its own, sized by the container's CPUs: the default one has a thread for each CPU of the node."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return options


def _whole(split: SplitData) -> Any:
    """All pictures of a split as one tensor, read once."""
    if split not in _kept:
        _kept[split] = tf.constant(_read(split, np.arange(len(split))))
    return _kept[split]


def _read(split: SplitData, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    with storage_errors("read the prepared pictures"):
        return read_pictures(split.images, rows)


def memory_bound() -> int:
    """Bytes of pictures of one split that may be held: a share of the container's memory limit."""
    for path in LIMIT_FILES:
        try:
            limit = path.read_text().strip()
        except OSError:
            continue
        if limit.isdecimal():  # it is "max" where there is none
            return min(int(limit) // LIMIT_SHARE, DEFAULT_BOUND)
    return DEFAULT_BOUND
