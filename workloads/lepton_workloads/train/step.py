"""What all workers compute together: the network, its optimizer, and the functions of one step.

Gradients are summed over the workers together with loss and hits, in one collective, before the optimizer sees them:
all workers see the same numbers and come to the same end in the same step, and clipping means the gradients of the
whole batch. The loss is divided by the pictures of the global batch.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lepton_workloads.contract.data import DatasetManifest
from lepton_workloads.contract.tasks import MODELS_DIR, TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.storage import storage_errors
from lepton_workloads.train.data import Batch
from lepton_workloads.train.dropout import DropoutSeed, SeededDropout
from lepton_workloads.train.losses import picture_losses
from lepton_workloads.train.network import build_network
from lepton_workloads.train.optimizers import make_optimizer
from lepton_workloads.train.runtime import uses_xla
from lepton_workloads.train.warm_start import load_weights

log = Log(__name__)


class Steps:
    """Training, validation and agreement, one call a step; every worker must make the same calls.

    Batches come prepared: their images are what the network is given.
    """

    def __init__(
        self, task: TrainTask, index: int, manifest: DatasetManifest, strategy: Any, steps_per_epoch: int
    ) -> None:
        training, classes = task.training, len(manifest.labels)
        self._strategy = strategy
        self._workers = task.workers
        self._index = index
        self._dropout = DropoutSeed(training.seed, index)
        self._losses = picture_losses(training, classes)
        with strategy.scope():
            self.model = build_network(
                task.network,
                manifest.picture,
                classes,
                lambda rate, position: SeededDropout(rate, position, self._dropout),
                synchronized=task.workers > 1,
                dtype=training.precision,
            )
        if task.warm_start:
            # Outside the scope: the earlier network is this worker's own.
            version = place(MODELS_DIR) / task.warm_start.digest
            with storage_errors("read the version to begin with"):
                load_weights(self.model, version, task.warm_start.frozen_layers)
        with strategy.scope():
            self.optimizer = make_optimizer(training, steps_per_epoch)
            self.optimizer.build(self.model.trainable_variables)
        self._compute = self._gradients
        if uses_xla(task):
            self._compute = tf.function(self._gradients, jit_compile=True, autograph=False)
        elif training.jit_compile:
            log.warning("Left XLA out: batch normalization speaks with the other workers inside of the step")
        self._train = tf.function(self._distributed_train, autograph=False)
        self._test = tf.function(self._distributed_test, autograph=False)
        self._sum = tf.function(self._distributed_sum, autograph=False)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def train(self, batch: Batch, number: int) -> tuple[float, float]:
        """Train on this worker's slice of a global batch; loss sum and hits of the whole batch.

        Args:
            number: of the step over all epochs, from 1; it decides the dropout.
        """
        # Python numbers would be traced anew.
        pictures, step = tf.constant(batch.pictures, tf.float32), tf.constant(number, tf.int64)
        loss, hits = self._train(batch.images, batch.labels, batch.weights, pictures, step).numpy().tolist()
        return loss, hits

    def test(self, batch: Batch) -> npt.NDArray[np.float64]:
        """float64 (2,): loss sum and hits of this worker's slice alone."""
        found: npt.NDArray[np.float32] = self._test(batch.images, batch.labels, batch.weights).numpy()
        return found.astype(np.float64)

    def total(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of all workers' values."""
        found: npt.NDArray[np.float64] = self._sum(tf.constant(values)).numpy()
        return found

    def gather(self, digest: str) -> list[str]:
        """A digest (hex) of every worker, in the order of the index."""
        # A sum of rows of which each worker fills its own: that is one collective of one kind for all purposes.
        rows = np.zeros((self._workers, len(digest) // 2))
        rows[self._index] = list(bytes.fromhex(digest))
        return [bytes(row.astype(np.uint8)).hex() for row in self.total(rows)]

    def _distributed_train(self, images: Any, labels: Any, weights: Any, pictures: Any, step: Any) -> Any:
        args = (images, labels, weights, pictures, step)
        *gradients, sums = self._strategy.run(self._replica_train, args=args)
        # Outside `run`, where the optimizer takes gradients as they are: inside it would sum them again.
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return sums

    def _replica_train(self, *args: Any) -> Any:
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, self._compute(*args))

    def _gradients(self, images: Any, labels: Any, weights: Any, pictures: Any, step: Any) -> list[Any]:
        """This worker's part of the gradients, then float32 (2,): loss sum, hits."""
        self._dropout.step = step
        with tf.GradientTape() as tape:
            losses, hits = self._forward(images, labels, training=True)
            total = tf.reduce_sum(losses * weights)
            # As tf.nn.compute_average_loss, which wants its global batch size as an integer constant.
            loss = total / pictures
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return [*gradients, tf.stack([total, tf.reduce_sum(hits * weights)])]

    def _distributed_test(self, images: Any, labels: Any, weights: Any) -> Any:
        return self._strategy.run(self._replica_test, args=(images, labels, weights))

    def _replica_test(self, images: Any, labels: Any, weights: Any) -> Any:
        losses, hits = self._forward(images, labels, training=False)
        return tf.stack([tf.reduce_sum(losses * weights), tf.reduce_sum(hits * weights)])

    def _distributed_sum(self, values: Any) -> Any:
        def replica(mine: Any) -> Any:
            # An argument has no device, which the collective asks for.
            mine = tf.identity(mine)
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return self._strategy.run(replica, args=(values,))

    def _forward(self, images: Any, labels: Any, *, training: bool) -> tuple[Any, Any]:
        """Loss and hit (0 or 1) of each picture, float32 (B,)."""
        probabilities = self.model(images, training=training)
        losses = self._losses(labels, probabilities)
        found = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return losses, tf.cast(tf.equal(found, labels), tf.float32)
