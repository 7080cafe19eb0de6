"""What pictures look like, in a few numbers, and how far two distributions of such numbers are apart.

The trainer writes a version's reference with it, the server compares what it sees with that: by the same code, so that
equal pictures give equal numbers to the last bit. Only NumPy is needed.
"""

import heapq
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.artifact import Histogram

BINS = 10
SMOOTHING = 0.5
"""Added to the count of each bin, since an empty one would make the index infinite."""
LEAST_EXPECTED = 5.0
"""Values that a bin should expect; below that the index of equal data is no longer distributed as is known."""
ONCE_IN_10_000 = 3.719
"""Quantile of the standard normal distribution: an index that chance reaches once in 10,000 windows."""
ONCE_IN_100 = 2.326
Values = npt.NDArray[np.float64]


class PictureStatistics(NamedTuple):
    """Of N pictures, in the units of pixels (0 to 255)."""

    channel_means: Values
    """(N, channels)"""
    brightness: Values
    """(N,): mean of all values."""
    contrast: Values
    """(N,): standard deviation of all values."""


def picture_statistics(pixels: npt.NDArray[Any]) -> PictureStatistics:
    """Of pictures (N, height, width, channels) with values from 0 to 255, not normalised.

    By sums of whole numbers, which floats hold exactly: so a picture's numbers don't depend on those it is counted
    with, and a matrix product, ten times as fast as a sum along an axis, gives the same as any other order.
    """
    count, channels = len(pixels), pixels.shape[-1]
    values = pixels.reshape(count, -1).astype(np.float64)
    size = values.shape[1]
    sums = np.ones(size // channels) @ values.reshape(count, -1, channels)
    total = sums.sum(axis=1)
    squares = np.einsum("ij,ij->i", values, values)
    variance = np.maximum(size * squares - total * total, 0.0) / (size * size)
    return PictureStatistics(sums * channels / size, total / size, np.sqrt(variance))


def quantile_histogram(values: Values) -> Histogram:
    """Bins by the quantiles of the values themselves; N > 0."""
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    return Histogram(edges=edges.tolist(), shares=shares(values, edges.tolist()))


def bin_numbers(values: Values, edges: list[float]) -> npt.NDArray[np.intp]:
    """The bin of each value in a `Histogram` with these edges."""
    return np.searchsorted(edges, values, side="right")


def shares(values: Values, edges: list[float]) -> list[float]:
    """Share of the values in each bin of a `Histogram` with these edges; N > 0."""
    numbers = bin_numbers(values, edges)
    found: list[float] = (np.bincount(numbers, minlength=len(edges) + 1) / len(values)).tolist()
    return found


def stability_index(expected: Values, actual: Values) -> float:
    """Population stability index of counts in the same bins: the sum of (p - q) ln(p / q) over their shares p and q.

    The formula and its use at 0.1 and 0.25: N. Siddiqi, Credit Risk Scorecards, Wiley 2006. It is the divergence J of
    S. Kullback and R. A. Leibler, On Information and Sufficiency, Annals of Mathematical Statistics 22 (1951).
    """
    p = (actual + SMOOTHING) / (actual.sum() + SMOOTHING * len(actual))
    q = (expected + SMOOTHING) / (expected.sum() + SMOOTHING * len(expected))
    return float(((p - q) * np.log(p / q)).sum())


def index_by_chance(bins: int, reference: int, window: int, normal_quantile: float) -> float:
    """The index that equal data of these sizes reaches as seldom as a normal variable reaches `normal_quantile`.

    Of equal data the index is about (1 / reference + 1 / window) times a chi-square variable of bins - 1 degrees of
    freedom (B. Yurdakul, Statistical Properties of Population Stability Index, dissertation, Western Michigan
    University 2018), whose quantile is that of Wilson and Hilferty (PNAS 17, 1931).
    """
    if bins < 2:
        return 0.0
    freedom = bins - 1
    spread = 2 / (9 * freedom)
    chi_square = freedom * (1 - spread + normal_quantile * spread**0.5) ** 3
    return float(chi_square * (1 / reference + 1 / window))


def most_bins(reference: int, window: int, threshold: float, available: int) -> int:
    """How many bins may be compared, from 2 to `available`, before chance alone often reaches the threshold."""
    bins = max(available, 2)
    while bins > 2 and index_by_chance(bins, reference, window, ONCE_IN_100) > threshold:
        bins -= 1
    return bins


def wider_bins(
    histogram: Histogram, most: int, least: float, resolution: float = 0.0, top: float = np.inf
) -> list[float]:
    """The edges that are left when the smallest bins are joined with their neighbours; one of them always stays.

    Args:
        most: bins that may be left, 2 or more.
        least: share of the reference that each should hold.
        resolution: width of bins that are not told from their neighbours, since the same picture may give a value that
            differs by so much: probabilities of a network in 8 bits for example.
        top: the largest value that there is.
    """
    limits = np.array([-np.inf, *histogram.edges, top])
    sure = (np.diff(limits)[:-1] >= resolution) & (np.diff(limits)[1:] >= resolution)
    edges = [edge for edge, is_sure in zip(histogram.edges, sure.tolist(), strict=True) if is_sure]
    held = joined(histogram, edges).tolist()
    while len(held) > 2 and (len(held) > most or min(held) < least):
        smallest = held.index(min(held))
        beside = [place for place in (smallest - 1, smallest + 1) if 0 <= place < len(held)]
        edge = min(smallest, min(beside, key=held.__getitem__))
        held[edge : edge + 2] = [held[edge] + held[edge + 1]]
        del edges[edge]
    return edges


def joined(histogram: Histogram, edges: list[float]) -> Values:
    """Shares of the histogram in the bins between some of its edges."""
    numbers = bin_numbers(np.array([-np.inf, *histogram.edges]), edges)
    return np.bincount(numbers, weights=histogram.shares, minlength=len(edges) + 1).astype(np.float64)


def groups_of_classes(counts: Values, most: int, least: float) -> npt.NDArray[np.intp]:
    """The group of each class: frequent ones have their own, rare ones are counted together in groups of equal size.

    Many classes with a few predictions each would give a large index by chance. A shift between classes of one group is
    not seen.

    Args:
        counts: how often each class is in the reference.
        most: groups that may be made, 2 or more.
        least: share of the reference that each should hold.
    """
    number = min(most, len(counts))
    smoothed = (counts + SMOOTHING).tolist()  # classes that were never seen shall not all meet in one group
    while True:
        groups = np.zeros(len(counts), np.intp)
        lightest = [(0.0, group) for group in range(number)]
        for index in np.argsort(-counts, kind="stable").tolist():
            weight, group = lightest[0]
            heapq.heapreplace(lightest, (weight + smoothed[index], group))
            groups[index] = group
        held = np.bincount(groups, weights=counts, minlength=number) / max(counts.sum(), 1)
        if number <= 2 or held.min() >= least:
            return groups
        number -= 1 + number // 8
