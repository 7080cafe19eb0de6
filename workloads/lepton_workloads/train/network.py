"""The Keras model of a `Cnn`."""

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from lepton_workloads.contract.data import Picture
from lepton_workloads.contract.network import Cnn
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.termination import WorkloadError

INPUT = "image"
OUTPUT = "probabilities"


def check_size(cnn: Cnn, picture: Picture) -> None:
    """Refuse a picture that the blocks shrink to nothing.

    Raises:
        WorkloadError: InvalidSpec, naming the block and what to change.
    """
    height, width = picture.height, picture.width
    for block, (_, kernel, pool) in enumerate(cnn.blocks, start=1):
        lost = kernel - 1 if cnn.padding == "valid" else 0
        height, width = (max(side - lost, 0) // pool for side in (height, width))
        if height < 1 or width < 1:
            raise WorkloadError(
                Failure.INVALID_SPEC,
                f"pictures of {picture.height} x {picture.width} are too small: nothing is left of them "
                f"after block {block} of {len(cnn.convolutions)}; use fewer convolutions, a smaller poolSize "
                "or kernelSize, or larger pictures in the dataset",
                terminal=True,
            )


def plain_dropout(rate: float, position: int) -> Any:
    """Keras' own dropout."""
    return keras.layers.Dropout(rate, name=f"dropout_{position}")


def build_network(
    cnn: Cnn,
    picture: Picture,
    classes: int,
    dropout: Callable[[float, int], Any] = plain_dropout,
    *,
    synchronized: bool = False,
    dtype: str = "float32",
) -> Any:
    """A functional model: `image` (N, height, width, channels) -> `probabilities` (N, classes), both float32.

    The pictures come normalised. Whatever the precision, the weights are float32 and in the same order.

    Args:
        dropout: makes the dropout layer of a rate and a position; training puts its own here. Blocks come first, then
            dense layers, each at its place, whether the others have dropout or not.
        synchronized: batch normalization over all workers' parts of the batch.
        dtype: Keras dtype policy of the layers, such as mixed_bfloat16; the softmax stays float32.

    Raises:
        WorkloadError: InvalidSpec, see `check_size`.
    """
    check_size(cnn, picture)
    layers = keras.layers
    image = keras.Input((picture.height, picture.width, picture.channels), dtype="float32", name=INPUT)
    x = image
    for block, (filters, kernel, pool) in enumerate(cnn.blocks):
        x = layers.Conv2D(
            filters,
            kernel,
            padding=cnn.padding,
            activation=None if cnn.batch_normalization else cnn.activation,
            dtype=dtype,
            name=f"convolution_{block}",
        )(x)
        if cnn.batch_normalization:
            x = layers.BatchNormalization(
                synchronized=synchronized, dtype=dtype, name=f"batch_normalization_{block}"
            )(x)
            x = layers.Activation(cnn.activation, dtype=dtype, name=f"activation_{block}")(x)
        x = layers.MaxPooling2D(pool, dtype=dtype, name=f"pooling_{block}")(x)
        if cnn.convolution_dropout > 0:
            x = dropout(cnn.convolution_dropout, block)(x)
    x = layers.Flatten(dtype=dtype, name="flatten")(x)
    for position, units in enumerate(cnn.dense):
        x = layers.Dense(units, activation=cnn.activation, dtype=dtype, name=f"dense_{position}")(x)
        if cnn.dropout > 0:
            x = dropout(cnn.dropout, len(cnn.convolutions) + position)(x)
    output = layers.Dense(classes, activation="softmax", dtype="float32", name=OUTPUT)(x)
    return keras.Model(image, output, name="cnn")


def weights_digest(model: Any) -> str:
    """sha256 (hex) of all weights as little-endian float32, in order; equal weights, equal digest.

    Frozen weights and the moving statistics of batch normalization are among them. Files of equal weights differ from
    save to save, so they can't serve for this.
    """
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight, "<f4").tobytes())
    return digest.hexdigest()
