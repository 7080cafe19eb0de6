"""A training that begins with the weights of an earlier version, some of them frozen."""

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.data import Picture
from lepton_workloads.contract.network import Cnn
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.artifact import write_checksums

PICTURE = Picture(height=8, width=8, channels=1)


@pytest.fixture(scope="module")
def keras() -> Any:
    """Imported late: it takes seconds."""
    return importlib.import_module("keras")


def network(classes: int = 3, **fields: Any) -> Any:
    from lepton_workloads.train.network import build_network

    sizes = {"convolutions": [4, 6], "dense": [8], "batch_normalization": True, **fields}
    return build_network(Cnn(**sizes), PICTURE, classes)


@pytest.fixture
def version(keras: Any, tmp_path: Path) -> tuple[Path, Any]:
    """A version's folder, and the network whose weights it holds."""
    keras.utils.set_random_seed(1)
    model = network()
    for weight in model.weights:
        weight.assign(keras.random.uniform(weight.shape))
    (tmp_path / "new").mkdir()
    model.save(tmp_path / "new/model.keras")
    return publish(tmp_path / "new"), model


def publish(folder: Path) -> Path:
    """As the trainer does: the folder's name is the digest of its checksums."""
    return folder.rename(folder.parent / write_checksums(folder))


def load(model: Any, folder: Path, *frozen: str) -> None:
    from lepton_workloads.train.warm_start import load_weights

    load_weights(model, folder, frozen)


def refused(model: Any, folder: Path, *frozen: str) -> WorkloadError:
    with pytest.raises(WorkloadError) as caught:
        load(model, folder, *frozen)
    assert caught.value.terminal
    return caught.value


def test_all_weights_and_statistics_are_those_of_the_version(version: Any) -> None:
    from lepton_workloads.train.network import weights_digest

    folder, earlier = version
    model = network()
    load(model, folder)
    assert weights_digest(model) == weights_digest(earlier)
    assert len(model.trainable_variables) == len(earlier.trainable_variables)


def test_other_classes_get_a_new_last_layer(version: Any) -> None:
    folder, earlier = version
    model = network(classes=5)
    before = model.get_layer("probabilities").get_weights()
    load(model, folder)
    for layer in model.layers[:-1]:
        for ours, theirs in zip(
            layer.get_weights(), earlier.get_layer(layer.name).get_weights(), strict=True
        ):
            assert np.array_equal(ours, theirs)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(before, model.get_layer("probabilities").get_weights(), strict=True)
    )


def test_frozen_layers_stay_as_they_are_while_others_learn(keras: Any, version: Any) -> None:
    folder, earlier = version
    model = network()
    frozen = ("convolution_0", "batch_normalization_0")
    load(model, folder, *frozen)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    images = np.random.default_rng(1).random((16, 8, 8, 1), np.float32)
    model.fit(images, np.arange(16) % 3, epochs=1, verbose=0)
    moved = {
        layer.name
        for layer in model.layers
        if any(
            not np.array_equal(ours, theirs)
            for ours, theirs in zip(
                layer.get_weights(), earlier.get_layer(layer.name).get_weights(), strict=True
            )
        )
    }
    assert moved == {"convolution_1", "batch_normalization_1", "dense_0", "probabilities"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"convolutions": [4, 7]}, r"convolution_1 has weights of shape .*4, 7.* has .*4, 6"),
        ({"convolutions": [4, 6, 6]}, r"convolution_2 has weights of shape .* has no such layer"),
        ({"dense": [9]}, r"dense_0 has weights of shape .*\(24, 9\).* has .*\(24, 8\)"),
    ],
)
def test_another_network_is_refused_naming_the_layer_and_both_shapes(
    version: Any, fields: Any, words: str
) -> None:
    error = refused(network(**fields), version[0])
    assert error.reason == Failure.INVALID_SPEC
    assert re.search(words, error.message), error.message


@pytest.mark.parametrize(
    ("frozen", "words"),
    [
        (
            ["convolution_9"],
            "no layer convolution_9 to freeze; there are convolution_0, batch_normalization_0",
        ),
        (["pooling_0"], "no layer pooling_0 to freeze"),
        (
            [
                *(f"{kind}_{block}" for kind in ("convolution", "batch_normalization") for block in (0, 1)),
                "dense_0",
                "probabilities",
            ],
            "all layers are frozen",
        ),
    ],
)
def test_layers_that_can_t_be_frozen_are_refused(version: Any, frozen: Any, words: str) -> None:
    error = refused(network(), version[0], *frozen)
    assert error.reason == Failure.INVALID_SPEC
    assert words in error.message


def test_a_last_layer_that_begins_anew_is_not_to_be_frozen(version: Any) -> None:
    error = refused(network(classes=5), version[0], "probabilities")
    assert (error.reason, "begins anew" in error.message) == (Failure.INVALID_SPEC, True)


@pytest.mark.parametrize("name", ["model.keras", "SHA256SUMS"])
def test_a_version_that_was_changed_is_refused(version: Any, name: str) -> None:
    folder, _ = version
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    assert refused(network(), folder).reason == Failure.CHECKSUM_MISMATCH


def test_a_version_without_a_keras_file_is_refused(tmp_path: Path, keras: Any) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/other.bin").write_bytes(b"1")
    error = refused(network(), publish(tmp_path / "new"))
    assert (error.reason, "holds no model.keras" in error.message) == (Failure.INVALID_SPEC, True)


def test_nothing_in_the_file_is_run(keras: Any, tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 1), name="image")
    output = keras.layers.Lambda(lambda x: x + 1)(inputs)
    (tmp_path / "new").mkdir()
    keras.Model(inputs, output).save(tmp_path / "new/model.keras")
    error = refused(network(), publish(tmp_path / "new"))
    assert (error.reason, "can't be loaded" in error.message) == (Failure.INVALID_SPEC, True)
