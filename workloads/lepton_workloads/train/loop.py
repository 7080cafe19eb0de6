"""The training loop: one code path for one worker and for many.

A custom loop, since `model.fit` under MultiWorkerMirroredStrategy is broken with Keras 3 (keras issue
20585). Each step feeds the worker's own slice of the global batch; gradients are summed over the workers by
the optimizer, so the loss is divided by the pictures of the whole global batch. Loss and hits are summed over
the workers in every step: all of them see the same numbers, and come to the same end in the same step.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.outcome import Epoch, Failure
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.report import ReportServer
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.data import Batch, Dataset, SplitData, epoch_order
from lepton_workloads.train.network import build_network

REPORT_SECONDS = 0.5
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}

log = Log(__name__)


@dataclass
class Trained:
    """What the loop leaves: the model with its last weights, and the figures of all epochs."""

    model: Any
    history: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class DropoutSeed:
    """Where the dropout layers find the running step while the step function is traced."""

    seed: int
    worker: int
    step: Any = 0


@keras.saving.register_keras_serializable("lepton")
class SeededDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout whose mask is a function of (seed, worker, layer, step) and keeps no state.

    Keras' own keeps its random state in a variable that mirrored workers would share, and that no
    checkpoint restores.
    """

    def __init__(self, rate: float, position: int, source: DropoutSeed) -> None:
        super().__init__(name=f"dropout_{position}")
        self.rate = rate
        self.position = position
        self.source = source

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Inputs scaled by 1 / (1 - rate) where they are kept, while training."""
        if not training:
            return inputs
        seed = tf.constant([self.source.seed, self.source.worker * 64 + self.position], tf.int32)
        seed = tf.random.experimental.stateless_fold_in(seed, self.source.step)
        keep = tf.random.stateless_uniform(tf.shape(inputs), seed, dtype=tf.float32) >= self.rate
        return tf.where(keep, inputs / (1 - self.rate), tf.zeros_like(inputs))


class Loop:
    """Trains one network on one dataset as worker `index` of the gang."""

    def __init__(
        self, task: TrainTask, index: int, dataset: Dataset, strategy: Any, report: ReportServer
    ) -> None:
        self.task = task
        self.index = index
        self.dataset = dataset
        self.strategy = strategy
        self.report = report
        self.manifest = dataset.manifest
        self.train = dataset.splits[SplitName.TRAIN]
        self.batch_size = self._batch_size()
        self.steps = math.ceil(len(self.train) / self.batch_size)
        self.dropout = DropoutSeed(task.training.seed, index)
        with strategy.scope():
            self.model = build_network(
                task.network,
                self.manifest.picture,
                len(self.manifest.labels),
                lambda rate, position: SeededDropout(rate, position, self.dropout),
            )
            self.optimizer = OPTIMIZERS[task.training.optimizer](learning_rate=task.training.learning_rate)
            self.optimizer.build(self.model.trainable_variables)
        self._train_step = tf.function(self._distributed_train_step)
        self._test_step = tf.function(self._distributed_test_step)

    def run(self) -> Trained:
        """Train all epochs.

        Raises:
            WorkloadError: Diverged.
        """
        trained = Trained(self.model)
        epochs = self.task.training.epochs
        self.report.update(phase="Training", epochs=epochs, total=self.steps)
        start = time.monotonic()
        for epoch in range(1, epochs + 1):
            figures = self._epoch(epoch)
            trained.history.append(figures)
            trained.seconds = time.monotonic() - start
            left = (epochs - epoch) * trained.seconds / epoch
            self.report.update(
                epoch=epoch,
                loss=figures.loss,
                accuracy=figures.accuracy,
                images_per_second=figures.images_per_second,
                eta_seconds=left,
                history=trained.history,
            )
            log.info("Finished epoch", job=self.task.job, **figures.to_json_dict())
        return trained

    def _epoch(self, epoch: int) -> Epoch:
        order = epoch_order(len(self.train), self.task.training.seed, epoch - 1)
        start = time.monotonic()
        next_report = start + REPORT_SECONDS
        loss = hits = 0.0
        seen = 0
        batches = self._batches(self.train, order)
        for step, batch in enumerate(batches, start=1):
            number = (epoch - 1) * self.steps + step
            count = tf.constant(batch.pictures, tf.float32)  # a Python number would be traced anew
            sums = self._train_step(
                batch.images, batch.labels, batch.weights, count, tf.constant(number, tf.int32)
            )
            step_loss, step_hits = (float(value) for value in sums.numpy())
            if not math.isfinite(step_loss):
                raise self._diverged(epoch, step)
            loss, hits, seen = loss + step_loss, hits + step_hits, seen + batch.pictures
            now = time.monotonic()
            if now >= next_report:
                next_report = now + REPORT_SECONDS
                self._report_step(epoch, step, loss / seen, hits / seen, seen / (now - start))
        seconds = time.monotonic() - start
        validation_loss, validation_accuracy = self._validate()
        return Epoch(
            epoch=epoch,
            loss=loss / seen,
            accuracy=hits / seen,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            seconds=seconds,
            images_per_second=seen / seconds,
        )

    def _report_step(self, epoch: int, step: int, loss: float, accuracy: float, rate: float) -> None:
        left = (self.task.training.epochs - epoch) * len(self.train) + (self.steps - step) * self.batch_size
        self.report.update(
            done=step,
            loss=loss,
            accuracy=accuracy,
            images_per_second=rate,
            eta_seconds=left / rate,
        )

    def _validate(self) -> tuple[float | None, float | None]:
        """Loss and accuracy over the validation split, each worker doing its slices."""
        split = self.dataset.splits[SplitName.VALIDATION]
        if not len(split):
            return None, None
        order = epoch_order(len(split), 0, 0)
        total = [0.0, 0.0]
        for batch in self._batches(split, order):
            sums = self._test_step(batch.images, batch.labels, batch.weights)
            total = [a + float(b) for a, b in zip(total, sums.numpy(), strict=True)]
        loss, hits = total
        # A finite training loss with an infinite validation loss is no divergence, but no JSON number either.
        return (loss / len(split) if math.isfinite(loss) else None), hits / len(split)

    def _batches(self, split: SplitData, order: Any) -> Iterator[Batch]:
        return split.batches(order, self.batch_size, self.task.workers, self.index)

    def _batch_size(self) -> int:
        """The global batch size, but no larger than the split (rounded up to the workers): padding costs."""
        workers = self.task.workers
        return min(self.task.training.batch_size, math.ceil(len(self.train) / workers) * workers)

    def _distributed_train_step(self, images: Any, labels: Any, weights: Any, count: Any, number: Any) -> Any:
        """One step on a slice of a global batch of `count` pictures; float32 (2,): loss sum, hits."""
        args = (images, labels, weights, count, number)
        sums = self.strategy.run(self._replica_train_step, args=args)
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    def _distributed_test_step(self, images: Any, labels: Any, weights: Any) -> Any:
        sums = self.strategy.run(self._replica_test_step, args=(images, labels, weights))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    def _replica_train_step(self, images: Any, labels: Any, weights: Any, count: Any, number: Any) -> Any:
        self.dropout.step = number
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            losses, hits = self._forward(images, labels, training=True)
            total = tf.reduce_sum(losses * weights)
            # As tf.nn.compute_average_loss, which wants its global batch size as an integer constant.
            loss = total / count
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return tf.stack([total, tf.reduce_sum(hits * weights)])

    def _replica_test_step(self, images: Any, labels: Any, weights: Any) -> Any:
        losses, hits = self._forward(images, labels, training=False)
        return tf.stack([tf.reduce_sum(losses * weights), tf.reduce_sum(hits * weights)])

    def _forward(self, images: Any, labels: Any, *, training: bool) -> tuple[Any, Any]:
        """Loss and hit (0 or 1) of each picture, float32 (B,)."""
        normalization = self.manifest.normalization
        inputs = tf.cast(images, tf.float32) * normalization.scale + normalization.offset
        probabilities = self.model(inputs, training=training)
        losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        found = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return losses, tf.cast(tf.equal(found, labels), tf.float32)

    def _diverged(self, epoch: int, step: int) -> WorkloadError:
        rate = self.task.training.learning_rate
        return WorkloadError(
            Failure.DIVERGED,
            f"the loss is no finite number any more in epoch {epoch}, step {step} of {self.steps}: "
            f"lower the learning rate (now {rate:g}) or change the network",
            terminal=True,
        )
