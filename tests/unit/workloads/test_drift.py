"""The numbers by which pictures are compared with those of the training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_workloads.drift import picture_statistics, quantile_histogram, shares

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
