"""Dropout that keeps no state, so that a training can go on where another one ended."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

MAX_LAYERS = 64


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
        # The values pass in the precision that they come in.
        super().__init__(name=f"dropout_{position}", autocast=False)
        self.rate = rate
        self.position = position
        self.source = source

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Inputs scaled by 1 / (1 - rate) where they are kept, while training."""
        if not training:
            return inputs
        seed = tf.constant([self.source.seed, self.source.worker * MAX_LAYERS + self.position], tf.int32)
        seed = tf.random.experimental.stateless_fold_in(seed, self.source.step)
        keep = tf.random.stateless_uniform(tf.shape(inputs), seed, dtype=tf.float32) >= self.rate
        return tf.where(keep, inputs / (1 - self.rate), tf.zeros_like(inputs))
