"""The verdict about drift, by simulation with fixed seeds: equal data raises nothing, other data soon."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.artifact import Reference
from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.serving import Drift
from lepton_workloads.drift import PictureStatistics, quantile_histogram
from lepton_workloads.serve.drift.window import DriftWindow, Seen

Draw = Callable[[np.random.Generator, int], Seen]


def seen(brightness: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, channels: int = 3) -> Seen:
    """Predictions whose channels differ a little, and whose contrast goes with the brightness."""
    means = brightness[:, None] + np.arange(channels) * 3.0
    return Seen(PictureStatistics(means, brightness, 20 + brightness / 4), predicted, confidence)


def drawn(
    random: np.random.Generator,
    count: int,
    *,
    darker: float = 0.0,
    shares: tuple[float, ...] = (0.1,) * 10,
    confidence: float = 8.0,
    channels: int = 3,
) -> Seen:
    """Predictions like those of a good network on pictures of all kinds."""
    return seen(
        random.normal(120 - darker, 30, count).clip(0, 255),
        random.choice(len(shares), count, p=shares),
        random.beta(confidence, 1, count),
        channels,
    )


def reference(
    random: np.random.Generator, samples: int, draw: Draw = drawn, classes_known: int = 10
) -> Reference:
    found = draw(random, samples)
    classes = np.bincount(found.predicted, minlength=classes_known)
    return Reference(
        split=SplitName.VALIDATION,
        samples=samples,
        channel_means=[quantile_histogram(values) for values in found.pictures.channel_means.T],
        brightness=quantile_histogram(found.pictures.brightness),
        contrast=quantile_histogram(found.pictures.contrast),
        predicted=(classes / samples).tolist(),
        confidence=quantile_histogram(found.confidence),
    )


def raised_after(window: DriftWindow, random: np.random.Generator, draw: Draw, most: int) -> int | None:
    """Predictions until there is drift; None when there is none in so many."""
    for start in range(0, most, 25):
        window.add(draw(random, 25))
        if window.drifting:
            return start + 25
    return None


@pytest.mark.parametrize("samples", [40, 180, 1000, 10_000])
@pytest.mark.parametrize("classes", [2, 10, 300])
def test_equal_data_raises_nothing_in_200_windows(samples: int, classes: int) -> None:
    random = np.random.default_rng(samples + classes)

    def draw(random: np.random.Generator, count: int) -> Seen:
        return drawn(random, count, shares=(1 / classes,) * classes)

    window = DriftWindow(reference(random, samples, draw, classes), Drift(window=500))
    assert raised_after(window, random, draw, 200 * 500) is None
    assert window.samples == 500


def test_single_looks_at_equal_data_pass_the_level_almost_never() -> None:
    random = np.random.default_rng(11)
    passed = looks = 0
    for _ in range(20):
        window = DriftWindow(reference(random, 500), Drift(window=500))
        for _ in range(40):
            window.add(drawn(random, 500))
            looks += 1
            passed += any(window.indexes[figure.name] > figure.level for figure in window.figures)
    assert looks == 800
    assert passed <= 4


@pytest.mark.parametrize(
    ("shift", "figures"),
    [
        ({"darker": 40.0}, {"brightness", "contrast", "channel_0", "channel_1", "channel_2"}),
        ({"shares": (0.91, *[0.01] * 9)}, {"predicted"}),
        ({"confidence": 2.0}, {"confidence"}),
    ],
)
@pytest.mark.parametrize("before", [0, 1230])
@pytest.mark.parametrize("samples", [180, 2000])
def test_other_data_raises_within_three_windows_and_equal_data_ends_it(
    shift: dict[str, Any], figures: set[str], before: int, samples: int
) -> None:
    random = np.random.default_rng(3)
    window = DriftWindow(reference(random, samples), Drift(window=500))
    window.add(drawn(random, before))
    assert not window.drifting
    after = raised_after(window, random, lambda r, n: drawn(r, n, **shift), 5000)
    assert after is not None
    assert 2 * 500 <= after <= 3 * 500 + 125
    assert {f.name for f in window.figures if window.indexes[f.name] > f.level} == figures
    window.add(drawn(random, 250, **shift))
    assert window.report.drifting
    for _ in range(4):
        window.add(drawn(random, 500))
    assert not window.report.drifting


def test_nothing_is_said_before_the_window_is_full() -> None:
    random = np.random.default_rng(0)
    window = DriftWindow(reference(random, 500), Drift(window=500))
    window.add(drawn(random, 499, darker=100))
    assert (window.report.samples, window.report.drifting, window.report.indexes) == (499, False, {})
    window.add(drawn(random, 1, darker=100))
    assert window.report.samples == 500
    assert window.report.indexes["brightness"] > 1
    assert not window.report.drifting


def test_an_outburst_of_one_window_is_no_drift() -> None:
    """However it lies, one of three windows in a row has none of it."""
    random = np.random.default_rng(0)
    window = DriftWindow(reference(random, 500), Drift(window=500))
    window.add(drawn(random, 500))
    window.add(drawn(random, 500, darker=100))
    assert window.indexes["brightness"] > 1
    assert raised_after(window, random, drawn, 5000) is None


def test_predictions_one_by_one_and_all_at_once_give_the_same() -> None:
    random = np.random.default_rng(2)
    known = reference(random, 300)
    all_of_them = drawn(random, 1777, darker=5)
    together, one_by_one = DriftWindow(known, Drift(window=700)), DriftWindow(known, Drift(window=700))
    together.add(all_of_them)
    for index in range(1777):
        part = slice(index, index + 1)
        pictures = PictureStatistics(*(values[part] for values in all_of_them.pictures))
        one_by_one.add(Seen(pictures, all_of_them.predicted[part], all_of_them.confidence[part]))
    assert one_by_one.report == together.report


def test_grey_pictures_have_no_figure_of_their_only_channel() -> None:
    random = np.random.default_rng(2)

    def draw(random: np.random.Generator, count: int) -> Seen:
        return drawn(random, count, channels=1)

    window = DriftWindow(reference(random, 300, draw), Drift(window=500))
    window.add(draw(random, 500))
    assert set(window.indexes) == {"brightness", "contrast", "predicted", "confidence"}


def test_eight_bits_are_no_drift_of_the_confidence() -> None:
    """A network in 8 bits never says more than 255/256, where float32 said 0.99 and 0.9999."""
    random = np.random.default_rng(4)

    def sure(random: np.random.Generator, count: int) -> Seen:
        return drawn(random, count, confidence=300.0)

    def in_8_bits(random: np.random.Generator, count: int) -> Seen:
        found = sure(random, count)
        return found._replace(confidence=np.minimum(np.rint(found.confidence * 256), 255) / 256)

    known = reference(random, 2000, sure)
    assert raised_after(DriftWindow(known, Drift(window=500), "int8"), random, in_8_bits, 5000) is None
