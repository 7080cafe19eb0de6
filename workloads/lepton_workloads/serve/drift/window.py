"""The newest predictions against the version's reference: an index for each figure, and the verdict over time."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.artifact import Histogram, Reference
from lepton_workloads.contract.outcome import DriftFigures
from lepton_workloads.contract.serving import Drift, Precision
from lepton_workloads.drift import (
    LEAST_EXPECTED,
    ONCE_IN_10_000,
    ONCE_IN_100,
    PictureStatistics,
    Values,
    bin_numbers,
    groups_of_classes,
    index_by_chance,
    joined,
    most_bins,
    stability_index,
    wider_bins,
)

LOOKS_IN_WINDOW = 4
"""So often the window is looked at while it fills with new predictions."""
LOOKS_TO_RAISE = 2 * LOOKS_IN_WINDOW + 1
"""Looks in a row that span three windows without a prediction in common, and all between."""
CONFIDENCE_STEP: dict[Precision, float] = {"float32": 1e-4, "int8": 0.02}
"""By about so much the confidence in one picture differs between training and serving."""


class Figure:
    """One of the things that are compared: its bins, what the reference holds in them, and the levels of the verdict.

    An index counts as drift above `level`: the threshold, or what chance alone reaches once in 10,000 windows where
    that is more since the reference is small. It is over below `over`: half the threshold, or what chance reaches once
    in 100.
    """

    def __init__(
        self, name: str, expected_shares: Values, samples: int, drift: Drift, histogram_edges: list[float]
    ) -> None:
        """`expected_shares`: of the reference in each bin; `histogram_edges`: between them, none for classes."""
        self.name = name
        self.edges = histogram_edges
        self.expected = expected_shares * samples
        bins = len(expected_shares)
        self.level = max(drift.threshold, index_by_chance(bins, samples, drift.window, ONCE_IN_10_000))
        self.over = max(drift.threshold / 2, index_by_chance(bins, samples, drift.window, ONCE_IN_100))
        self.looks_above = 0
        self._bins = np.zeros(drift.window, np.uint16)

    def put(self, places: npt.NDArray[np.intp], bins: npt.NDArray[np.intp]) -> None:
        """Sets the bins of the predictions at these places of the window."""
        self._bins[places] = bins

    def index(self) -> float:
        """Of the whole window."""
        counts = np.bincount(self._bins, minlength=len(self.expected)).astype(np.float64)
        return stability_index(self.expected, counts)


class Seen(NamedTuple):
    """What is kept of N predictions."""

    pictures: PictureStatistics
    predicted: npt.NDArray[np.intp]
    """(N,): the class with the largest probability."""
    confidence: Values
    """(N,): that probability."""


class DriftWindow:
    """A ring of the newest predictions; nothing is said before it is full.

    Drift is found once a figure's index was above its level in three windows in a row: in each look over so many
    predictions that the first, the middle and the last window have none in common. It is over when all are low again.
    """

    def __init__(self, reference: Reference, drift: Drift, precision: Precision = "float32") -> None:
        self.size = drift.window
        self.drifting = False
        self.indexes: dict[str, float] = {}
        self._every = -(-drift.window // LOOKS_IN_WINDOW)
        self._seen = 0
        self._looked = 0
        self._reference = reference
        self._drift = drift
        self._least = LEAST_EXPECTED / min(reference.samples, drift.window)
        self._brightness = self._histogram("brightness", reference.brightness)
        self._contrast = self._histogram("contrast", reference.contrast)
        step = CONFIDENCE_STEP[precision]
        self._confidence = self._histogram("confidence", reference.confidence, step, 1.0)
        channels = reference.channel_means
        self._channels = [self._histogram(f"channel_{number}", h) for number, h in enumerate(channels)]
        if len(channels) == 1:
            self._channels = []  # of grey pictures it is the brightness
        counts = np.array(reference.predicted) * reference.samples
        self._groups = groups_of_classes(counts, self._most(len(counts)), self._least)
        held = np.bincount(self._groups, weights=reference.predicted).astype(np.float64)
        self._predicted = Figure("predicted", held, reference.samples, drift, [])
        self.figures = [
            self._brightness,
            self._contrast,
            *self._channels,
            self._predicted,
            self._confidence,
        ]

    def _most(self, available: int) -> int:
        return most_bins(self._reference.samples, self.size, self._drift.threshold, available)

    def _histogram(self, name: str, found: Histogram, step: float = 0.0, top: float = np.inf) -> Figure:
        edges = wider_bins(found, self._most(len(found.shares)), self._least, step, top)
        return Figure(name, joined(found, edges), self._reference.samples, self._drift, edges)

    @property
    def samples(self) -> int:
        """Predictions in the window."""
        return min(self._seen, self.size)

    @property
    def report(self) -> DriftFigures:
        """What the report says."""
        return DriftFigures(samples=self.samples, drifting=self.drifting, indexes=self.indexes)

    def add(self, seen: Seen) -> None:
        """Takes in predictions, in order, and looks at the window as often as is due."""
        start = 0
        while start < len(seen.predicted):
            due = max(self.size, self._looked + self._every) - self._seen
            self._put(seen, slice(start, start + due))
            start += due
            if self._seen >= max(self.size, self._looked + self._every):
                self._look()

    def _put(self, seen: Seen, part: slice) -> None:
        predicted = seen.predicted[part]
        places = np.arange(self._seen, self._seen + len(predicted)) % self.size
        self._seen += len(predicted)
        pictures = seen.pictures
        values = [(self._brightness, pictures.brightness), (self._contrast, pictures.contrast)]
        values += [(figure, pictures.channel_means[:, i]) for i, figure in enumerate(self._channels)]
        values.append((self._confidence, seen.confidence))
        for figure, numbers in values:
            figure.put(places, bin_numbers(numbers[part], figure.edges))
        self._predicted.put(places, self._groups[predicted])

    def _look(self) -> None:
        self._looked = self._seen
        self.indexes = {figure.name: figure.index() for figure in self.figures}
        for figure in self.figures:
            above = self.indexes[figure.name] > figure.level
            figure.looks_above = figure.looks_above + 1 if above else 0
        if any(figure.looks_above >= LOOKS_TO_RAISE for figure in self.figures):
            self.drifting = True
        elif all(self.indexes[figure.name] < figure.over for figure in self.figures):
            self.drifting = False
