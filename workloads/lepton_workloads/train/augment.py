"""Random changes of training pictures, in the graph: a function of (seed, epoch, picture), whatever batch it is in.

All moves of a picture are one projective transform, so that it is sampled once. Only stateless operations are used:
the same draw comes again after a resume, and on any number of workers.
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lepton_workloads.contract.training import Augment

DRAWS = 9
"""Uniform numbers of a picture: two flips, angle, two shifts, zoom, crop's size and place (two), ..."""
COLOUR_DRAWS = 2
"""... then brightness and contrast."""

Change = Callable[[Any, Any, Any], Any]


def make_augment(augment: Augment, seed: int) -> Change:
    """A function of (images, samples, epoch) -> images.

    images: float32 (B, height, width, channels), 0 to 255; samples: int64 (B,), index in the split;
    epoch: int64 scalar, 0-based. What comes from outside the picture is black.
    """
    moves = _moves(augment)
    colours = augment.brightness > 0 or augment.contrast > 0

    def change(images: Any, samples: Any, epoch: Any) -> Any:
        draws = _draw(seed, samples, epoch)
        if moves:
            images = _transform(images, _matrices(augment, draws, tf.shape(images)))
        if colours:
            images = _colour(augment, images, draws)
        return images

    return change


def _moves(augment: Augment) -> bool:
    amounts = (augment.rotate_degrees, augment.shift, augment.zoom, augment.crop)
    return augment.flip != "none" or any(amount > 0 for amount in amounts)


def _draw(seed: int, samples: Any, epoch: Any) -> Any:
    """float32 (B, DRAWS + COLOUR_DRAWS) in [0, 1)."""
    root = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0x1E97], tf.int32), epoch)

    def one(sample: Any) -> Any:
        own = tf.random.experimental.stateless_fold_in(root, sample)
        return tf.random.stateless_uniform([DRAWS + COLOUR_DRAWS], own)

    return tf.map_fn(one, samples, fn_output_signature=tf.float32)


def _signed(draw: Any, most: float) -> Any:
    """From [0, 1) to [-most, most)."""
    return (draw * 2 - 1) * most


def _matrices(augment: Augment, draws: Any, shape: Any) -> Any:
    """float32 (B, 8): for each pixel of the answer, where in the picture it comes from (tf.raw_ops' form)."""
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    parts = [draws[:, at] for at in range(DRAWS)]
    across = _mirror(parts[0], augment.flip in ("horizontal", "both"))
    down = _mirror(parts[1], augment.flip in ("vertical", "both"))
    angle = _signed(parts[2], augment.rotate_degrees * math.pi / 180)
    left = 1 - parts[6] * augment.crop  # share of the sides that the crop leaves
    scale = left / (1 + _signed(parts[5], augment.zoom))
    # A crop may lie anywhere inside the picture; a shift moves it on.
    right = _signed(parts[3], augment.shift) * width + _signed(parts[7], 0.5) * (1 - left) * width
    below = _signed(parts[4], augment.shift) * height + _signed(parts[8], 0.5) * (1 - left) * height
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    a, b, c, d = across * cos, -down * sin, across * sin, down * cos
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x = middle_x - a * middle_x - b * middle_y + right
    y = middle_y - c * middle_x - d * middle_y + below
    zero = tf.zeros_like(a)
    return tf.stack([a, b, x, c, d, y, zero, zero], axis=1)


def _mirror(draw: Any, wanted: bool) -> Any:
    """-1 for every second picture, else 1."""
    return tf.where(draw < 0.5, -1.0, 1.0) if wanted else tf.ones_like(draw)


def _transform(images: Any, matrices: Any) -> Any:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=matrices,
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def _colour(augment: Augment, images: Any, draws: Any) -> Any:
    shape = [-1, 1, 1, 1]
    added = tf.reshape(_signed(draws[:, DRAWS], augment.brightness) * 255, shape)
    factor = tf.reshape(1 + _signed(draws[:, DRAWS + 1], augment.contrast), shape)
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return tf.clip_by_value((images - mean) * factor + mean + added, 0, 255)
