"""The loss of each picture, by Keras' names."""

from collections.abc import Callable
from typing import Any

import keras

from lepton_workloads.contract.training import Training

PictureLosses = Callable[[Any, Any], Any]


def picture_losses(training: Training, classes: int) -> PictureLosses:
    """A function of labels, int32 (B,), and probabilities, float32 (B, classes): losses, float32 (B,)."""
    if training.loss == "sparse_categorical_crossentropy":
        return lambda labels, found: keras.losses.sparse_categorical_crossentropy(labels, found)
    one_hot = {
        "categorical_crossentropy": keras.losses.categorical_crossentropy,
        "categorical_focal_crossentropy": keras.losses.categorical_focal_crossentropy,
    }[training.loss]

    def losses(labels: Any, found: Any) -> Any:
        wanted = keras.ops.one_hot(labels, classes, dtype="float32")
        return one_hot(wanted, found, label_smoothing=training.label_smoothing)

    return losses
