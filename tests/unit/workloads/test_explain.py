"""Class activation maps by NumPy are those that TensorFlow computes with a backward pass."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.data import Picture
from lepton_workloads.contract.network import Cnn
from lepton_workloads.explain import FEATURES_OUTPUT, load_explainer

from .grad_cam import by_backward_pass

PICTURE = Picture(height=18, width=14, channels=3)
CLASSES = 4


def network(cnn: Cnn, seed: int = 5) -> Any:
    """A network whose numbers are far from their start, where biases are 0 and normalisations do nothing."""
    import keras

    from lepton_workloads.train.network import build_network

    keras.utils.set_random_seed(seed)
    model = build_network(cnn, PICTURE, CLASSES)
    random = np.random.default_rng(seed)
    model.set_weights(
        [
            (weight + random.uniform(-0.2, 0.2, weight.shape)).astype(np.float32)
            if weight.ndim > 1
            else random.uniform(0.1, 0.9, weight.shape).astype(np.float32)
            for weight in model.get_weights()
        ]
    )
    return model


CASES = [
    Cnn(convolutions=[4, 6], dense=[]),
    Cnn(convolutions=[4, 6], dense=[10]),
    Cnn(convolutions=[5], dense=[12, 7], dropout=0.3),
    Cnn(convolutions=[4], dense=[9, 8, 6]),
    Cnn(convolutions=[4, 6], dense=[10], activation="elu"),
    Cnn(convolutions=[4, 6], dense=[10, 5], activation="gelu"),
    Cnn(convolutions=[4, 6], dense=[10, 5], activation="silu"),
    Cnn(convolutions=[4, 6], dense=[10, 5], activation="tanh"),
    Cnn(convolutions=[4, 6], dense=[10], padding="valid"),
    Cnn(convolutions=[4, 6], dense=[10], pool_size=1),
    Cnn(convolutions=[4, 6], dense=[10], pool_size=3),
    Cnn(convolutions=[4, 6], dense=[10, 8], batch_normalization=True, activation="elu"),
    Cnn(convolutions=[4, 6], dense=[], batch_normalization=True),
    Cnn(convolutions=[4, 6], dense=[10], pool_sizes=[2, 1], kernel_sizes=[5, 2], convolution_dropout=0.2),
]


@pytest.mark.parametrize("cnn", CASES, ids=lambda cnn: f"{cnn.dense}-{cnn.activation}-{cnn.padding}")
def test_maps_without_a_backward_pass_are_those_of_grad_cam(cnn: Cnn, tmp_path: Path) -> None:
    from lepton_workloads.train.explaining import explainer_of
    from lepton_workloads.train.export import export
    from lepton_workloads.train.litert import LiteRtFile

    model = network(cnn)
    export(model, cnn, tmp_path)
    explainer_of(model, cnn).save(tmp_path / "explain.npz")
    explainer = load_explainer(tmp_path / "explain.npz")
    images = np.random.default_rng(2).random((3, 18, 14, 3), np.float32)
    file = LiteRtFile(tmp_path / "model.tflite", 3)
    outputs = file.run(images)
    assert set(outputs) == {"probabilities", FEATURES_OUTPUT, *explainer.sums_outputs}
    # Explanations cost nothing: no layer is computed twice for them.
    operations = [operation["op_name"] for operation in file._interpreter._get_ops_details()]
    assert operations.count("FULLY_CONNECTED") == len(cnn.dense) + 1
    assert operations.count("CONV_2D") == len(cnn.convolutions)
    block = len(cnn.convolutions) - 1
    name = f"activation_{block}" if cnn.batch_normalization else f"convolution_{block}"
    seen = 0
    for index in range(3):
        sums = [outputs[name][index] for name in explainer.sums_outputs]
        for number in range(CLASSES):
            found = explainer.map(outputs[FEATURES_OUTPUT][index], sums, number)
            expected = by_backward_pass(model, name, images[index], number)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-4 * min(float(expected.max()), 1))
            seen += bool(expected.any())
    assert seen > 2  # maps of zeros would agree with anything


def test_layers_of_a_network_and_of_its_explanations_never_share_a_name() -> None:
    """Keras counts the names that it gives itself, for the whole process; those of blocks are counted as well."""
    from lepton_workloads.train.explaining import with_explanations

    cnn = Cnn(convolutions=[4] * 4, pool_size=1, dense=[6] * 4, batch_normalization=True, activation="elu")
    model = network(cnn)
    for _ in range(2):
        names = [layer.name for layer in with_explanations(model, cnn).layers]
        assert len(set(names)) == len(names)
        assert names.count("dense_3_activation") == 1


@pytest.mark.parametrize("damage", ["nothing", "no zip", "half", "unknown activation", "other shapes"])
def test_a_file_that_explains_nothing_is_named(damage: str, tmp_path: Path) -> None:
    from lepton_workloads.explain import Explainer

    path = tmp_path / "explain.npz"
    ones = np.ones((3, 2), np.float32)
    good = Explainer("relu", ones, (np.ones((3, 4), np.float32),))
    good.save(path)
    assert load_explainer(path).kernels[0].shape == (3, 4)
    if damage == "nothing":
        np.savez(path, activation="relu")
    elif damage == "no zip":
        path.write_bytes(b"no archive")
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "unknown activation":
        Explainer("swish", good.first, good.kernels).save(path)
    else:
        Explainer("relu", good.first, (np.ones((4, 4), np.float32),)).save(path)
    with pytest.raises(ValueError, match=r"explain\.npz|pickle|file"):
        load_explainer(path)
