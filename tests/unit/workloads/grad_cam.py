"""Grad-CAM by TensorFlow's backward pass, for comparison."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def by_backward_pass(model: Any, features: str, image: Floats, number: int) -> Floats:
    """Grad-CAM as it is defined, (H, W)."""
    import keras
    import tensorflow as tf

    layers = model.layers[1:]
    until = [layer.name for layer in layers].index(features)
    first = keras.Model(model.input, layers[until].output)
    activation = tf.Variable(first(image[None], training=False))
    with tf.GradientTape() as tape:
        x: Any = activation
        for layer in layers[until + 1 : -1]:
            x = layer(x, training=False) if "dropout" in layer.name else layer(x)
        score = (x @ layers[-1].kernel + layers[-1].bias)[0, number]
    gradient = tape.gradient(score, activation)
    weights = tf.reduce_mean(gradient, axis=(1, 2))
    found: Floats = tf.nn.relu(tf.reduce_sum(activation * weights[:, None, None], axis=-1))[0].numpy()
    return found
