"""Random changes of training pictures: the same for a picture of an epoch wherever it is, and within their bounds."""

import importlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_workloads.contract.training import Augment

ALL = Augment(flip="both", rotate_degrees=30, shift=0.2, zoom=0.2, crop=0.2, brightness=0.2, contrast=0.3)
MANY = 400


@pytest.fixture(scope="module")
def tf() -> Any:
    """Imported late: it takes seconds. Operations that are not deterministic are refused from here on."""
    tensorflow = importlib.import_module("tensorflow")
    tensorflow.config.experimental.enable_op_determinism()
    tensorflow.keras.utils.set_random_seed(1)
    return tensorflow


def noise(count: int, height: int = 9, width: int = 7, channels: int = 3) -> Any:
    random = np.random.default_rng(5)
    return random.integers(0, 256, (count, height, width, channels)).astype(np.float32)


@cache
def function_of(augment: Augment, seed: int) -> Any:
    """Traced once for all shapes."""
    import tensorflow

    from lepton_workloads.train.augment import make_augment

    shapes = [tensorflow.TensorSpec((None,) * 4, tensorflow.float32)]
    numbers = [tensorflow.TensorSpec((None,), tensorflow.int64), tensorflow.TensorSpec((), tensorflow.int64)]
    return tensorflow.function(
        make_augment(augment, seed), autograph=False, input_signature=[*shapes, *numbers]
    )


def change(
    tf: Any, augment: Augment, images: Any, samples: Any = None, *, seed: int = 7, epoch: int = 0
) -> Any:
    """The changed pictures, computed in a graph as the pipeline does."""
    numbers = np.arange(len(images)) if samples is None else np.asarray(samples)
    function = function_of(augment, seed)
    return function(images, tf.constant(numbers, tf.int64), tf.constant(epoch, tf.int64)).numpy()


def ramp(count: int, axis: int, size: int = 33) -> Any:
    """Pictures whose pixels hold where they are, from 1 on: 0 is what comes from outside."""
    line = np.arange(1, size + 1, dtype=np.float32)
    shape = (1, size, 1, 1) if axis == 0 else (1, 1, size, 1)
    return np.broadcast_to(line.reshape(shape), (count, size, size, 1)).copy()


@settings(max_examples=100, deadline=None)
@given(chosen=st.lists(st.integers(0, 39), min_size=1, max_size=40), epoch=st.integers(0, 2**20))
def test_a_picture_changes_alike_in_whatever_batch_it_is(tf: Any, chosen: list[int], epoch: int) -> None:
    images = noise(40)
    whole = change(tf, ALL, images, epoch=epoch)
    assert np.array_equal(change(tf, ALL, images[chosen], chosen, epoch=epoch), whole[chosen])


def test_a_large_picture_changes_alike_alone_and_in_a_batch(tf: Any) -> None:
    images = noise(5, 300, 200)
    whole = change(tf, ALL, images)
    for number in range(5):
        assert np.array_equal(change(tf, ALL, images[number : number + 1], [number])[0], whole[number])


def test_epochs_seeds_and_pictures_differ(tf: Any) -> None:
    same = np.repeat(noise(1), 64, axis=0)
    first = change(tf, ALL, same)
    assert len({picture.tobytes() for picture in first}) == 64
    for other in (change(tf, ALL, same, epoch=1), change(tf, ALL, same, seed=8)):
        assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_without_settings_nothing_changes(tf: Any) -> None:
    images = noise(20)
    assert np.array_equal(change(tf, Augment(), images), images)


@pytest.mark.parametrize(
    ("flip", "mirrors"),
    [
        ("horizontal", [lambda p: p, lambda p: p[:, ::-1]]),
        ("vertical", [lambda p: p, lambda p: p[::-1]]),
        ("both", [lambda p: p, lambda p: p[:, ::-1], lambda p: p[::-1], lambda p: p[::-1, ::-1]]),
    ],
)
def test_a_flip_gives_the_picture_or_its_mirror_and_nothing_else(tf: Any, flip: Any, mirrors: Any) -> None:
    images = noise(MANY)
    found = change(tf, Augment(flip=flip), images)
    counts = [
        sum(np.array_equal(after, mirror(before)) for before, after in zip(images, found, strict=True))
        for mirror in mirrors
    ]
    assert sum(counts) == MANY
    share = MANY / len(mirrors)
    assert all(0.75 * share < count < 1.25 * share for count in counts)


def test_a_shift_moves_up_to_its_share_each_way(tf: Any) -> None:
    for axis in (0, 1):
        images = ramp(MANY, axis)
        found = change(tf, Augment(shift=0.25), images)
        inside = (found[:, 16, 16, 0] - 17) / 33  # how far what the middle shows is from the middle
        assert np.abs(inside).max() <= 0.25 + 1e-6
        assert inside.min() < -0.23
        assert inside.max() > 0.23
        assert abs(inside.mean()) < 0.03


def test_a_zoom_scales_within_its_bounds_around_the_middle(tf: Any) -> None:
    found = change(tf, Augment(zoom=0.2), ramp(MANY, 1))
    assert np.allclose(found[:, 16, 16, 0], 17, atol=1e-4)
    factor = 1 / (found[:, 16, 20, 0] - found[:, 16, 19, 0])
    assert factor.min() >= 0.8 - 1e-4
    assert factor.max() <= 1.2 + 1e-4
    assert factor.min() < 0.82
    assert factor.max() > 1.18


def test_a_rotation_turns_by_up_to_its_angle_around_the_middle(tf: Any) -> None:
    columns, rows = (change(tf, Augment(rotate_degrees=40), ramp(MANY, axis)) for axis in (1, 0))
    assert np.allclose(columns[:, 16, 16, 0], 17, atol=1e-4)
    across = columns[:, 16, 20, 0] - columns[:, 16, 16, 0]
    down = rows[:, 16, 20, 0] - rows[:, 16, 16, 0]
    degrees = np.degrees(np.arctan2(down, across))
    assert np.allclose(np.hypot(across, down), 4, atol=1e-3)
    assert np.abs(degrees).max() <= 40.01
    assert degrees.min() < -37
    assert degrees.max() > 37


def test_a_crop_enlarges_a_part_and_shows_nothing_from_outside(tf: Any) -> None:
    for axis in (0, 1):
        found = change(tf, Augment(crop=0.4), ramp(MANY, axis))
        line = found[:, :, 0, 0] if axis == 0 else found[:, 0, :, 0]
        first, last = line[:, 0], line[:, -1]
        assert first.min() >= 1 - 1e-3
        assert last.max() <= 33 + 1e-3
        left = (last - first) / 32
        assert left.min() >= 0.6 - 1e-4
        assert left.min() < 0.63
        assert left.max() > 0.97
        # It lies anywhere: sometimes at the one side, sometimes at the other.
        small = left < 0.8
        assert ((first < 2) & small).any()
        assert ((last > 32) & small).any()


def test_what_comes_from_outside_is_black_also_in_brighter_pictures(tf: Any) -> None:
    white = np.full((MANY, 16, 16, 1), 200, np.float32)
    found = change(tf, Augment(shift=0.5, brightness=0.1), white)
    outside = np.isclose(found, 0)
    assert outside.any()
    edge = (found > 0) & (found < 170)  # the row in which outside and inside mix
    assert edge.mean() < 0.15


def test_brightness_adds_up_to_its_share_of_the_range(tf: Any) -> None:
    grey = np.full((MANY, 4, 4, 1), 128, np.float32)
    found = change(tf, Augment(brightness=0.3), grey)
    assert np.ptp(found, axis=(1, 2, 3)).max() == 0
    added = (found[:, 0, 0, 0] - 128) / 255
    assert np.abs(added).max() <= 0.3 + 1e-6
    assert added.min() < -0.28
    assert added.max() > 0.28


def test_contrast_scales_the_distance_from_the_mean(tf: Any) -> None:
    halves = np.full((MANY, 4, 4, 3), 100, np.float32)
    halves[:, :2] = 150
    found = change(tf, Augment(contrast=0.5), halves)
    assert np.allclose(found.mean(axis=(1, 2, 3)), 125, atol=1e-3)
    factor = (found[:, 0, 0, 0] - found[:, 3, 0, 0]) / 50
    assert factor.min() >= 0.5 - 1e-5
    assert factor.max() <= 1.5 + 1e-5
    assert factor.min() < 0.53
    assert factor.max() > 1.47


def test_pixels_stay_in_their_range(tf: Any) -> None:
    found = change(tf, Augment(brightness=1, contrast=1, shift=0.1, rotate_degrees=180), noise(MANY))
    assert found.min() >= 0
    assert found.max() <= 255 * (1 + 1e-6)


def test_one_more_kind_of_change_leaves_the_draws_of_the_others(tf: Any) -> None:
    images = ramp(MANY, 1)
    alone = change(tf, Augment(shift=0.25), images)[:, 16, 16, 0]
    flipped = change(tf, Augment(shift=0.25, flip="vertical"), images)[:, 16, 16, 0]
    assert np.allclose(alone, flipped, atol=1e-4)
    assert np.ptp(alone) > 10


def test_draws_are_even_and_unrelated(tf: Any) -> None:
    from lepton_workloads.train.augment import Draw, Draws

    draws = Draws(7, tf.range(20_000, dtype=tf.int64), tf.constant(3, tf.int64))
    values = np.stack([draws.uniform(draw).numpy() for draw in Draw])
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.stack([np.histogram(row, 10, (0, 1))[0] for row in values])
    assert np.abs(counts - 2000).max() < 200
    related = np.corrcoef(np.concatenate([values, np.roll(values, 1, axis=1)]))
    assert np.abs(related - np.eye(len(related))).max() < 0.04
