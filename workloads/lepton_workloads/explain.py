"""Class activation maps (Grad-CAM) at the last convolution, without TensorFlow and without a backward pass.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) weights each channel of the last convolution's activation A (H, W, M)
with the mean gradient of a class's score before the softmax: map = relu(sum over m of alpha[m] * A[:, :, m]). Between
A and the dense layers stand a max-pooling, which only routes gradients, and a flatten. So the gradient, summed over
positions, needs no positions: with S[k, m] = the sum over positions of the first dense kernel, alpha = g S / (H W).
Here g is the gradient of the score with respect to the first dense layer's sums z; it follows from the later kernels
and the derivatives of the activation at the z of each dense layer, by the chain rule.

`model.tflite` has A and all z as outputs beside the probabilities; `explain.npz` holds S, the later kernels and the
name of the activation. Only NumPy is needed: the trainer and the server share this file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

FEATURES_OUTPUT = "features"
"""A: the activation of the last convolution block, before its pooling."""
Floats = npt.NDArray[np.float32]


def sums_output(position: int) -> str:
    """Name of the output that holds z of dense layer `position`, counted from 0 at the input.

    With relu it may hold 0 for negative sums: the derivative is the same.
    """
    return f"dense_{position}_sums"


@dataclass(frozen=True)
class Explainer:
    """What maps are made from, beside the outputs of `model.tflite`."""

    activation: str
    """Keras' name of the dense layers' activation."""
    first: Floats
    """S (units of the first dense layer, channels M); without dense layers (classes, M)."""
    kernels: tuple[Floats, ...]
    """Kernels of the later dense layers and of the output layer, (units before, units) each."""

    @property
    def sums_outputs(self) -> list[str]:
        """Outputs that hold z, in the order in which `map` takes them."""
        return [sums_output(position) for position in range(len(self.kernels))]

    def map(self, features: Floats, sums: Sequence[Floats], number: int) -> Floats:
        """What speaks for class `number` in one picture, float32 (H, W), from 0 on; larger is more.

        Args:
            features: A (H, W, M).
            sums: z (units,) of each dense layer, first to last; nothing without dense layers.
        """
        height, width, _ = features.shape
        weights = self._gradient(sums, number) @ self.first / (height * width)
        found: Floats = np.maximum(features @ weights, 0).astype(np.float32)
        return found

    def save(self, path: Path) -> None:
        """Write `explain.npz`."""
        kernels = {f"kernel_{position}": kernel for position, kernel in enumerate(self.kernels)}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, activation=self.activation, first=self.first, **kernels)

    def _gradient(self, sums: Sequence[Floats], number: int) -> Floats:
        """Of the class's score with respect to what `first` leads to."""
        if not self.kernels:
            one_hot: Floats = np.eye(len(self.first), dtype=np.float32)[number]
            return one_hot
        derivative = DERIVATIVES[self.activation]
        gradient = self.kernels[-1][:, number]
        for kernel, z in zip(reversed(self.kernels[:-1]), reversed(sums[1:]), strict=True):
            gradient = kernel @ (gradient * derivative(z))
        found: Floats = gradient * derivative(sums[0])
        return found


def load_explainer(path: Path) -> Explainer:
    """Read `explain.npz`.

    Raises:
        OSError: it can't be read.
        ValueError: it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: Mapping[str, npt.NDArray[Any]] = {name: file[name] for name in file.files}
        activation, first = str(arrays["activation"]), arrays["first"]
        kernels = tuple(arrays[f"kernel_{position}"] for position in range(len(arrays) - 2))
    except KeyError as error:
        raise ValueError(f"{path.name} lacks {error}") from error
    except BadZipFile as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if activation not in DERIVATIVES or any(array.ndim != 2 for array in (first, *kernels)):
        raise ValueError(f"{path.name} holds {activation!r} and arrays that are no network's")
    widths = [len(first), *(kernel.shape[1] for kernel in kernels)]
    if any(len(kernel) != width for kernel, width in zip(kernels, widths, strict=False)):
        raise ValueError(f"the kernels in {path.name} do not fit each other")
    return Explainer(activation, first, kernels)


def _relu(z: Floats) -> Floats:
    return (z > 0).astype(np.float32)


def _elu(z: Floats) -> Floats:
    return np.where(z > 0, np.float32(1), np.exp(np.minimum(z, 0)))


def _gelu(z: Floats) -> Floats:
    """Of z * Phi(z), Keras' exact form: Phi(z) + z * phi(z)."""
    phi = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    error_function = np.array([math.erf(value / math.sqrt(2)) for value in z.tolist()])
    return ((1 + error_function) / 2 + z * phi).astype(np.float32)


def _silu(z: Floats) -> Floats:
    sigmoid = (1 + np.tanh(z / 2)) / 2
    return (sigmoid * (1 + z * (1 - sigmoid))).astype(np.float32)


def _tanh(z: Floats) -> Floats:
    return (1 - np.tanh(z) ** 2).astype(np.float32)


DERIVATIVES = {"relu": _relu, "elu": _elu, "gelu": _gelu, "silu": _silu, "tanh": _tanh}
"""By the activation's Keras name: z (units,) -> its derivative there (units,)."""
