"""The numbers by which pictures are compared with those of the training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_workloads.contract.artifact import Histogram
from lepton_workloads.drift import (
    ONCE_IN_10_000,
    ONCE_IN_100,
    PictureStatistics,
    groups_of_classes,
    index_by_chance,
    joined,
    most_bins,
    picture_statistics,
    quantile_histogram,
    shares,
    stability_index,
    wider_bins,
)

Numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


def test_statistics_are_those_counted_by_hand() -> None:
    pixels = np.zeros((2, 1, 2, 3), np.uint8)
    pixels[1, 0] = [[0, 100, 200], [20, 100, 240]]
    found = picture_statistics(pixels)
    assert found.channel_means.tolist() == [[0, 0, 0], [10, 100, 220]]
    assert found.brightness.tolist() == [0, 110]
    assert found.contrast[0] == 0
    assert found.contrast[1] == pytest.approx(np.std([0, 100, 200, 20, 100, 240]))


def test_bins_of_different_values_hold_a_tenth_each() -> None:
    found = quantile_histogram(np.arange(1000, dtype=float))
    assert len(found.edges) == 9
    assert found.shares == pytest.approx([0.1] * 10, abs=2e-3)


def test_equal_values_share_a_bin() -> None:
    found = quantile_histogram(np.full(50, 7.0))
    assert (found.edges, found.shares) == ([7.0], [0.0, 1.0])


@given(Numbers, Numbers)
def test_every_value_falls_into_one_bin(reference: list[float], others: list[float]) -> None:
    found = quantile_histogram(np.array(reference))
    assert found.edges == sorted(set(found.edges))
    seen = shares(np.array(others), found.edges)
    assert len(seen) == len(found.edges) + 1
    assert sum(seen) == pytest.approx(1)
    for number, share in enumerate(seen):
        low = found.edges[number - 1] if number else -np.inf
        high = found.edges[number] if number < len(found.edges) else np.inf
        assert share == pytest.approx(sum(low <= value < high for value in others) / len(others))


def test_a_picture_s_numbers_don_t_depend_on_those_it_is_counted_with() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 7, 5, 3), dtype=np.uint8)
    together = picture_statistics(pixels)
    for index in range(len(pixels)):
        alone = picture_statistics(pixels[index : index + 1])
        for name in PictureStatistics._fields:
            assert getattr(alone, name)[0].tolist() == getattr(together, name)[index].tolist()
    assert together.contrast == pytest.approx(pixels.std(axis=(1, 2, 3)))
    assert together.channel_means == pytest.approx(pixels.mean(axis=(1, 2)))


def test_the_index_is_that_counted_by_hand() -> None:
    """Shares with 0.5 added to each count: 0.25 and 0.75 against 0.75 and 0.25."""
    found = stability_index(np.array([1.0, 4.0]), np.array([4.0, 1.0]))
    assert found == pytest.approx(2 * 0.5 * np.log(3))
    assert stability_index(np.array([5.0, 5.0]), np.array([500.0, 500.0])) == 0
    assert np.isfinite(stability_index(np.array([10.0, 0.0]), np.array([0.0, 10.0])))


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=20))
def test_the_index_is_the_same_both_ways_and_never_negative(counts: list[tuple[int, int]]) -> None:
    one, other = np.array(counts, float).T
    found = stability_index(one, other)
    assert found >= 0
    assert found == pytest.approx(stability_index(other, one))


@pytest.mark.parametrize(("bins", "reference", "window"), [(10, 1000, 500), (10, 180, 1000), (2, 100, 500)])
def test_equal_data_seldom_reaches_what_chance_may_give(bins: int, reference: int, window: int) -> None:
    random = np.random.default_rng(5)
    even = np.full(bins, 1 / bins)
    draws = 20_000
    expected = random.multinomial(reference, even, draws).astype(float)
    actual = random.multinomial(window, even, draws).astype(float)
    indexes = np.array([stability_index(e, a) for e, a in zip(expected, actual, strict=True)])
    once_in_100 = (indexes > index_by_chance(bins, reference, window, ONCE_IN_100)).mean()
    once_in_10_000 = (indexes > index_by_chance(bins, reference, window, ONCE_IN_10_000)).mean()
    assert 0.005 < once_in_100 < 0.02
    assert once_in_10_000 < 0.001


def test_a_small_reference_has_few_bins_and_a_large_one_all() -> None:
    assert most_bins(10_000, 1000, 0.2, 10) == 10
    assert most_bins(180, 500, 0.2, 10) == 10
    assert 2 < most_bins(180, 500, 0.1, 10) < 10
    assert most_bins(13, 500, 0.2, 10) == 2


def test_the_smallest_bins_are_joined_with_the_smaller_neighbour() -> None:
    tenths = Histogram(edges=[float(edge) for edge in range(1, 10)], shares=[0.1] * 10)
    assert wider_bins(tenths, 10, 0.05) == tenths.edges
    assert len(wider_bins(tenths, 5, 0.05)) == 4
    assert np.allclose(joined(tenths, wider_bins(tenths, 5, 0.2)), 0.2)
    assert len(wider_bins(tenths, 2, 0)) == 1
    uneven = Histogram(edges=[1.0, 2.0, 3.0], shares=[0.02, 0.48, 0.04, 0.46])
    assert wider_bins(uneven, 10, 0.05) == [2]
    assert joined(uneven, [2]).tolist() == pytest.approx([0.5, 0.5])
    assert wider_bins(uneven, 3, 0.0) == [2, 3]


def test_two_bins_are_left_where_there_are_two() -> None:
    assert wider_bins(Histogram(edges=[7.0], shares=[0.0, 1.0]), 10, 0.5) == [7]
    assert wider_bins(Histogram(edges=[7.0, 8.0], shares=[0.0, 0.95, 0.05]), 10, 0.2) == [8]
    assert wider_bins(Histogram(edges=[], shares=[1.0]), 10, 0.5) == []


def test_bins_narrower_than_what_can_be_told_apart_are_joined() -> None:
    sure = Histogram(edges=[0.6, 0.9, 0.99, 0.999, 0.9999], shares=[0.1, 0.1, 0.2, 0.2, 0.2, 0.2])
    assert wider_bins(sure, 10, 0.1, 0.02, 1.0) == [0.6, 0.9]
    assert wider_bins(sure, 10, 0.1, 1e-3, 1.0) == [0.6, 0.9, 0.99]
    assert wider_bins(sure, 10, 0.1) == sure.edges


def test_rare_classes_are_counted_together() -> None:
    counts = np.array([500.0, 20, 300, 20, 100, 20, 20, 20])
    groups = groups_of_classes(counts, 8, 0.05)
    assert np.bincount(groups, weights=counts).tolist() == [500, 300, 100, 100]
    assert sorted(groups_of_classes(np.full(4, 250.0), 10, 0.1)) == [0, 1, 2, 3]
    assert sorted(groups_of_classes(np.array([100.0, 0]), 10, 0.1)) == [0, 1]
    assert groups_of_classes(np.array([100.0]), 10, 0.1).tolist() == [0]
    assert np.bincount(groups_of_classes(np.ones(1000), 10, 0.01)).tolist() == [100] * 10


def test_classes_that_were_never_seen_are_spread_over_the_groups() -> None:
    counts = np.array([1.0] * 40 + [0.0] * 260)
    assert np.bincount(groups_of_classes(counts, 4, 0.1)).tolist() == [75] * 4
