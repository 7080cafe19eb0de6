"""The network with the outputs that explanations need, and what they need beside them."""

from typing import Any

import keras
import numpy as np

from lepton_workloads.contract.network import Cnn
from lepton_workloads.explain import FEATURES_OUTPUT, Explainer, sums_output
from lepton_workloads.train.network import OUTPUT


def with_explanations(model: Any, cnn: Cnn) -> Any:
    """The same network, for inference, with its answer, features and sums of the dense layers as named outputs.

    The layers with weights are those of `model`. Dense ones are copied without their activation, so that their sums
    can be read; not so with relu, which the converter would fuse into a second product of the same matrices. Its
    derivative is known from what it leaves of the sums.
    """
    features = _features_layer(model, len(cnn.blocks) - 1)
    outputs: dict[str, Any] = {}
    x = model.input
    for layer in model.layers[1:]:
        activation = None
        if layer.name.startswith("dense_") and cnn.activation != "relu":
            layer, activation = _without_activation(layer), layer.activation
        x = layer(x)
        if layer.name.startswith("dense_"):
            outputs[sums_output(int(layer.name.removeprefix("dense_")))] = x
        if activation is not None:
            x = keras.layers.Activation(activation, name=f"{layer.name}_activation")(x)
        if layer.name == features:
            outputs[FEATURES_OUTPUT] = x
    return keras.Model(model.input, {OUTPUT: x, **outputs}, name=model.name)


def explainer_of(model: Any, cnn: Cnn) -> Explainer:
    """What `explain.npz` holds for this network."""
    names = [*(f"dense_{position}" for position in range(len(cnn.dense))), OUTPUT]
    first, *later = (np.asarray(model.get_layer(name).kernel, np.float32) for name in names)
    channels = cnn.blocks[-1][0]
    sums = first.reshape(-1, channels, first.shape[1]).sum(axis=0, dtype=np.float64)
    return Explainer(cnn.activation, np.ascontiguousarray(sums.T, np.float32), tuple(later))


def _without_activation(dense: Any) -> Any:
    sums = keras.layers.Dense(dense.units, name=dense.name)
    sums.build(dense.input.shape)
    sums.set_weights(dense.get_weights())
    return sums


def _features_layer(model: Any, block: int) -> str:
    """With batch normalisation the activation is a layer of its own."""
    names = {layer.name for layer in model.layers}
    activation = f"activation_{block}"
    return activation if activation in names else f"convolution_{block}"
