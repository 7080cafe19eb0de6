"""Every size of the network in the spec becomes the layer that it says, in every precision."""

import importlib
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.data import Picture
from lepton_workloads.contract.network import Cnn

PICTURE = Picture(height=9, width=7, channels=1)


@pytest.fixture(scope="module")
def keras() -> Any:
    """Imported late: it takes seconds."""
    return importlib.import_module("keras")


def network(**fields: Any) -> Any:
    from lepton_workloads.train.network import build_network

    options = {
        name: fields.pop(name) for name in ("synchronized", "dtype", "dropout_layer") if name in fields
    }
    if "dropout_layer" in options:
        options["dropout"] = options.pop("dropout_layer")
    return build_network(Cnn(**{"convolutions": [4, 6], "dense": [8], **fields}), PICTURE, 3, **options)


def names(model: Any) -> list[str]:
    return [layer.name for layer in model.layers]


def test_each_block_has_its_own_sizes(keras: Any) -> None:
    model = network(kernel_sizes=[5, 1], pool_sizes=[1, 3], padding="valid")
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers[1:]}
    assert shapes["convolution_0"] == shapes["pooling_0"] == (5, 3, 4)
    assert shapes["convolution_1"] == (5, 3, 6)
    assert shapes["pooling_1"] == (1, 1, 6)
    assert model.get_layer("convolution_0").kernel.shape == (5, 5, 1, 4)
    assert model.get_layer("convolution_1").kernel.shape == (1, 1, 4, 6)


def test_batch_normalization_stands_between_convolution_and_activation(keras: Any) -> None:
    model = network(batch_normalization=True, activation="elu", synchronized=True)
    assert names(model)[1:5] == ["convolution_0", "batch_normalization_0", "activation_0", "pooling_0"]
    assert model.get_layer("convolution_0").activation is keras.activations.linear
    assert model.get_layer("activation_1").activation is keras.activations.elu
    assert model.get_layer("batch_normalization_1").synchronized
    assert not network(batch_normalization=True).get_layer("batch_normalization_0").synchronized
    assert network(activation="elu").get_layer("convolution_1").activation is keras.activations.elu


def test_no_dense_layer_leaves_the_softmax_alone(keras: Any) -> None:
    assert names(network(dense=[], dropout=0.5))[-2:] == ["flatten", "probabilities"]


def test_every_dropout_has_a_position_of_its_own(keras: Any) -> None:
    made: list[tuple[float, int]] = []

    def layer(rate: float, position: int) -> Any:
        made.append((rate, position))
        return keras.layers.Dropout(rate, name=f"dropout_{position}")

    model = network(convolution_dropout=0.1, dropout=0.2, dense=[8, 5], dropout_layer=layer)
    assert made == [(0.1, 0), (0.1, 1), (0.2, 2), (0.2, 3)]
    order = names(model)
    assert order[order.index("dropout_1") - 1] == "pooling_1"
    assert order[order.index("dropout_3") - 1] == "dense_1"
    assert [name for name in names(network(dropout=0.2)) if name.startswith("dropout")] == ["dropout_2"]


def test_mixed_precision_computes_in_16_bits_and_keeps_weights_and_answer_in_32(keras: Any) -> None:
    from lepton_workloads.train.dropout import DropoutSeed, SeededDropout

    source = DropoutSeed(7, 0, 1)
    fields: dict[str, Any] = {
        "batch_normalization": True,
        "convolution_dropout": 0.1,
        "dropout": 0.2,
        "dropout_layer": lambda rate, position: SeededDropout(rate, position, source),
    }
    model = network(**fields, dtype="mixed_bfloat16")
    kinds = {layer.name: layer.output.dtype for layer in model.layers}
    assert {kinds.pop("image"), kinds.pop("probabilities")} == {"float32"}
    assert set(kinds.values()) == {"bfloat16"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    plain = network(**fields)
    plain.set_weights(model.get_weights())
    images = np.random.default_rng(1).random((8, 9, 7, 1), np.float32)
    assert np.allclose(model(images), plain(images), atol=0.02)
    assert np.asarray(model(images, training=True)).dtype == np.float32


def test_the_digest_covers_weights_frozen_ones_and_moving_statistics(keras: Any) -> None:
    from lepton_workloads.train.network import weights_digest

    model = network(batch_normalization=True)
    seen = {weights_digest(model)}
    for layer in model.layers:
        layer.trainable = False
    assert weights_digest(model) in seen
    for weight in model.weights:
        weight.assign(weight + 0.5)
        seen.add(weights_digest(model))
    assert len(seen) == 1 + len(model.weights) == 1 + 2 * 6 + 2 * 2
