"""What pictures look like, in a few numbers, and how far two distributions of such numbers are apart.

The trainer writes a version's reference with it, the server compares what it sees with that: by the same code, so that
equal pictures give equal numbers to the last bit. Only NumPy is needed.
"""

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
    """How many bins, from 2 to `available`, may be compared before equal data reaches the threshold by chance."""
    bins = max(available, 2)
    while bins > 2 and index_by_chance(bins, reference, window, ONCE_IN_10_000) > threshold:
        bins -= 1
    return bins


def least_share(reference: int, window: int, threshold: float, available: int) -> float:
    """The share that a bin must have in the reference, lest chance rules the index."""
    bins = most_bins(reference, window, threshold, available)
    return max(LEAST_EXPECTED / min(reference, window), 1 / bins)


def wider_bins(
    histogram: Histogram, least: float, resolution: float = 0.0, top: float = np.inf
) -> list[float]:
    """The edges that are left when bins are joined with their neighbours until each has this share.

    Args:
        resolution: width of bins that are not told from their neighbours, since the same picture may give a value that
            differs by so much: probabilities of a network in 8 bits for example.
        top: the largest value that there is.
    """
    edges = _told_apart(histogram.edges, resolution, top)
    numbers = np.searchsorted(edges, [-np.inf, *histogram.edges], side="right")
    held = np.bincount(numbers, weights=histogram.shares, minlength=len(edges) + 1)
    kept: list[float] = []
    share = 0.0
    for edge, part in zip(edges, held, strict=False):
        share += part
        if share >= least * (1 - 1e-9):
            kept.append(edge)
            share = 0.0
    if kept and share + held[-1] < least * (1 - 1e-9):
        kept.pop()
    if edges and not kept:  # two bins at the least, as even as can be, since one alone would see nothing
        kept = [edges[int(np.abs(np.cumsum(held)[:-1] - 0.5).argmin())]]
    return kept


def _told_apart(edges: list[float], resolution: float, top: float) -> list[float]:
    limits = [-np.inf, *edges, top]
    widths = np.diff(limits)
    sure = (widths[:-1] >= resolution) & (widths[1:] >= resolution)
    return [edge for edge, is_sure in zip(edges, sure.tolist(), strict=True) if is_sure]


def groups_of_classes(class_shares: list[float], least: float) -> npt.NDArray[np.intp]:
    """The group of each class: its own where it has this share of the reference, else one with other rare classes.

    Many classes with a few predictions each would give a large index by chance. A shift between classes of one group is
    not seen.
    """
    enough = least * (1 - 1e-9)
    groups = np.zeros(len(class_shares), np.intp)
    often = [index for index, share in enumerate(class_shares) if share >= enough]
    groups[often] = np.arange(len(often))
    number, last = len(often), len(often)
    gathered: list[int] = []
    for index, share in enumerate(class_shares):
        if share >= enough:
            continue
        gathered.append(index)
        if sum(class_shares[each] for each in gathered) >= enough:
            groups[gathered] = last = number
            number, gathered = number + 1, []
    groups[gathered] = last
    return groups
