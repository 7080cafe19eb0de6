"""Random changes of training pictures, in the graph: a function of (seed, epoch, picture), whatever batch it is in.

The draws of a picture come from a hash of the three and not from a generator, so they are computed for all pictures of
a batch at once, and come again after a resume and on any number of workers. Colours change first, so that what comes
from outside of a picture stays black; then all moves are one projective transform, so that it is sampled once.
"""

import math
from collections.abc import Callable
from enum import IntEnum, auto
from typing import Any

import numpy as np
import tensorflow as tf

from lepton_workloads.contract.training import Augment

Change = Callable[[Any, Any, Any], Any]

FULL_RANGE = 255.0
ANGLES = 4097
"""Different angles; the middle one is 0."""


class Draw(IntEnum):
    """What is drawn for a picture. Each has its own numbers: one more kind of change leaves the others as they are."""

    FLIP_HORIZONTAL = auto()
    FLIP_VERTICAL = auto()
    ANGLE = auto()
    SHIFT_X = auto()
    SHIFT_Y = auto()
    ZOOM = auto()
    CROP = auto()
    CROP_X = auto()
    CROP_Y = auto()
    BRIGHTNESS = auto()
    CONTRAST = auto()


def make_augment(augment: Augment, seed: int) -> Change:
    """A function of (images, samples, epoch) -> images.

    images: float32 (B, height, width, channels), 0 to 255; samples: int64 (B,), index in the split;
    epoch: int64 scalar, 0-based. What comes from outside the picture is black.
    """
    amounts = (augment.rotate_degrees, augment.shift, augment.zoom, augment.crop)
    moves = augment.flip != "none" or any(amount > 0 for amount in amounts)
    colours = augment.brightness > 0 or augment.contrast > 0

    def change(images: Any, samples: Any, epoch: Any) -> Any:
        draws = Draws(seed, samples, epoch)
        if colours:
            images = _colour(augment, images, draws)
        if moves:
            images = _transform(images, _matrices(augment, draws, tf.shape(images)))
        return images

    return change


class Draws:
    """Uniform numbers of each picture: the outputs of SplitMix64 (Steele, Lea and Flood 2014) from hashed states."""

    def __init__(self, seed: int, samples: Any, epoch: Any) -> None:
        state = _mix(tf.constant(seed, tf.uint64))
        state = _mix(state ^ tf.cast(epoch, tf.uint64))
        state = _mix(state ^ tf.cast(samples, tf.uint64))
        steps = tf.constant([_GAMMA * draw & _ALL for draw in Draw], tf.uint64)
        bits = _mix(state[:, tf.newaxis] + steps)
        top = tf.cast(tf.bitwise.right_shift(bits, tf.constant(40, tf.uint64)), tf.int64)
        self._columns = tf.unstack(tf.cast(top, tf.float32) * 2.0**-24, len(Draw), axis=1)

    def uniform(self, draw: Draw) -> Any:
        """float32 (B,) in [0, 1)."""
        return self._columns[draw - 1]

    def signed(self, draw: Draw, most: float) -> Any:
        """float32 (B,) in [-most, most)."""
        return (self.uniform(draw) * 2 - 1) * most

    def mirror(self, draw: Draw, *, wanted: bool) -> Any:
        """float32 (B,): -1 for every second picture, else 1."""
        drawn = self.uniform(draw)
        return tf.where(drawn < 0.5, -1.0, 1.0) if wanted else tf.ones_like(drawn)


_ALL = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15


def _mix(value: Any) -> Any:
    """uint64 -> uint64: a bijection in which every bit of the input moves half of the output's bits."""
    value += tf.constant(_GAMMA, tf.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value ^= tf.bitwise.right_shift(value, tf.constant(shift, tf.uint64))
        value *= tf.constant(factor, tf.uint64)
    return value ^ tf.bitwise.right_shift(value, tf.constant(31, tf.uint64))


def _matrices(augment: Augment, draws: Draws, shape: Any) -> Any:
    """float32 (B, 8): for each pixel of the answer, where in the picture it comes from (tf.raw_ops' form).

    Pixels are points on a grid from 0 to side - 1, so that crops and enlargements stay inside of the picture.
    """
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    across = draws.mirror(Draw.FLIP_HORIZONTAL, wanted=augment.flip in ("horizontal", "both"))
    down = draws.mirror(Draw.FLIP_VERTICAL, wanted=augment.flip in ("vertical", "both"))
    cos, sin = _turn(draws.uniform(Draw.ANGLE), augment.rotate_degrees)
    zoom = 1 + draws.signed(Draw.ZOOM, augment.zoom)
    left = 1 - draws.uniform(Draw.CROP) * augment.crop  # share of the sides that the crop leaves
    scale = left / zoom
    a, b, c, d = across * cos * scale, -across * sin * scale, down * sin * scale, down * cos * scale
    # The middle of the answer, less its shift, shows the middle of what the crop leaves, which may lie anywhere.
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    from_x = middle_x + draws.signed(Draw.SHIFT_X, augment.shift) * width
    from_y = middle_y + draws.signed(Draw.SHIFT_Y, augment.shift) * height
    to_x = middle_x * (1 + draws.signed(Draw.CROP_X, 1.0) * (1 - left))
    to_y = middle_y * (1 + draws.signed(Draw.CROP_Y, 1.0) * (1 - left))
    x = to_x - a * from_x - b * from_y
    y = to_y - c * from_x - d * from_y
    zero = tf.zeros_like(a)
    return tf.stack([a, b, x, c, d, y, zero, zero], axis=1)


def _turn(drawn: Any, degrees: float) -> tuple[Any, Any]:
    """Cosine and sine of an angle up to `degrees` each way, float32 (B,) each.

    They come from a table: computed, their last bit depends on the place in the batch, since the rest that doesn't fill
    a vector register takes another way. Sums and products have one result everywhere.
    """
    angles = np.linspace(-degrees, degrees, ANGLES) * (math.pi / 180)
    at = tf.cast(drawn * ANGLES, tf.int32)
    return tuple(
        tf.gather(tf.constant(values, tf.float32), at) for values in (np.cos(angles), np.sin(angles))
    )


def _transform(images: Any, matrices: Any) -> Any:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=matrices,
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def _colour(augment: Augment, images: Any, draws: Draws) -> Any:
    """Brightness and contrast; what leaves the range is cut off."""
    shape = [-1, 1, 1, 1]
    added = tf.reshape(draws.signed(Draw.BRIGHTNESS, augment.brightness) * FULL_RANGE, shape)
    factor = tf.reshape(1 + draws.signed(Draw.CONTRAST, augment.contrast), shape)
    # A sum of whole numbers is the same in every order, and so on any number of threads.
    total = tf.reduce_sum(tf.cast(images, tf.int64), axis=[1, 2, 3], keepdims=True)
    mean = tf.cast(total, tf.float32) / tf.cast(tf.reduce_prod(tf.shape(images)[1:]), tf.float32)
    return tf.clip_by_value((images - mean) * factor + mean + added, 0, FULL_RANGE)
