"""Does a network that is 80 % sure hit four times in five?"""

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.base import Record

BINS = 15


class ReliabilityBin(Record):
    """Pictures whose confidence (the probability of the predicted class) lies above `above` and up to `up_to`."""

    above: float
    up_to: float
    samples: int
    confidence: float | None = None
    """Mean; None in an empty bin."""
    accuracy: float | None = None
    """Share of hits; None in an empty bin."""


def reliability(confidences: npt.NDArray[np.float64], hits: npt.NDArray[np.bool_]) -> list[ReliabilityBin]:
    """The reliability table over BINS equal-width bins ((m-1)/BINS, m/BINS].

    Args:
        confidences: (N,), above 0 and at most 1.
        hits: (N,), whether the predicted class is the true one.
    """
    edges = np.arange(BINS + 1) / BINS
    # A softmax in float32 may add up to a little more than 1.
    numbers = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, BINS - 1)
    samples = np.bincount(numbers, minlength=BINS)
    confidence = np.bincount(numbers, confidences, BINS)
    right = np.bincount(numbers, hits, BINS)
    return [
        ReliabilityBin(
            above=float(edges[number]),
            up_to=float(edges[number + 1]),
            samples=int(count),
            confidence=float(confidence[number] / count) if count else None,
            accuracy=float(right[number] / count) if count else None,
        )
        for number, count in enumerate(samples)
    ]


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """Mean distance of accuracy from confidence, weighted by the pictures of each bin.

    ECE = sum over m of |B_m| / n * |acc(B_m) - conf(B_m)|: equation (3) of Guo, Pleiss, Sun and Weinberger, "On
    Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599 (there with 15 bins, too).
    """
    total = sum(part.samples for part in bins)
    distances = (
        part.samples * abs(part.accuracy - part.confidence)
        for part in bins
        if part.accuracy is not None and part.confidence is not None
    )
    return float(sum(distances) / total)
