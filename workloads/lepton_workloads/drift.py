"""What pictures look like, in a few numbers: the reference of a version, and what a server sees, by the same code.

Only NumPy is needed: the trainer and the server share this file.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.artifact import Histogram

BINS = 10
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
    """Of pictures (N, height, width, channels) with values from 0 to 255, not normalised."""
    values = pixels.astype(np.float64)
    return PictureStatistics(
        values.mean(axis=(1, 2)), values.mean(axis=(1, 2, 3)), values.std(axis=(1, 2, 3))
    )


def quantile_histogram(values: Values) -> Histogram:
    """Bins by the quantiles of the values themselves; N > 0."""
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    return Histogram(edges=edges.tolist(), shares=shares(values, edges.tolist()))


def shares(values: Values, edges: list[float]) -> list[float]:
    """Share of the values in each bin of a `Histogram` with these edges; N > 0."""
    numbers = np.searchsorted(edges, values, side="right")
    found: list[float] = (np.bincount(numbers, minlength=len(edges) + 1) / len(values)).tolist()
    return found
