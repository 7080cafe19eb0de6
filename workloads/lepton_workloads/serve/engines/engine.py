"""The interface of what runs a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class NotFinite(ValueError):
    """The network's answer holds NaN or infinity."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One input's answer, and what a class activation map is made from."""

    probabilities: Floats
    """(labels,)"""
    features: Floats
    """The last convolution's activation (H, W, M)."""
    sums: list[Floats]
    """Of each dense layer (units,)."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Names of the outputs that maps are made from."""

    features: str
    sums: Sequence[str]


class Engine(Protocol):
    """A loaded network. Used by one thread at a time."""

    input_shape: tuple[int, ...]
    """Of one input, without the batch."""
    output_size: int
    """Numbers in one answer."""
    batch: int
    """How many inputs it gains to run at once; 1 when nothing is gained."""

    def predict(self, batch: Floats) -> Floats:
        """Answers (N, output_size) for inputs (N, *input_shape), both float32, for any N.

        Raises:
            NotFinite: an answer holds NaN or infinity.
        """
        ...

    def explain(self, one: Floats) -> Explained:
        """The answer to one input (1, *input_shape), and its layers; only where `Layers` were asked for.

        Raises:
            NotFinite: the answer holds NaN or infinity.
        """
        ...


def finite(answers: Floats) -> Floats:
    """The answers, when all of them are numbers.

    Raises:
        NotFinite: they hold NaN or infinity.
    """
    if not np.isfinite(answers).all():
        raise NotFinite("the network's answer is not finite")
    return answers
