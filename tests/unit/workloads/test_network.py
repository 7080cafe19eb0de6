"""Order of the data, layers, export of every activation: what needs no whole training."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.data import Normalization, Picture
from lepton_workloads.contract.network import Cnn
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.data import SplitData, epoch_order

PICTURE = Picture(height=9, width=7, channels=1)


def split_of(samples: int) -> SplitData:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (samples, 9, 7, 1)).astype(np.uint8)
    return SplitData(images, np.arange(samples, dtype=np.int32))


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch() -> None:
    first = epoch_order(100, 7, 0)
    assert sorted(first) == list(range(100))
    assert np.array_equal(first, epoch_order(100, 7, 0))
    assert not np.array_equal(first, epoch_order(100, 7, 1))
    assert not np.array_equal(first, epoch_order(100, 8, 0))


@pytest.mark.parametrize(("samples", "batch", "workers"), [(50, 16, 1), (50, 16, 4), (49, 16, 4), (3, 8, 4)])
def test_workers_share_each_global_batch(samples: int, batch: int, workers: int) -> None:
    data, order = split_of(samples), epoch_order(samples, 7, 0)
    shares = [list(data.batches(order, batch, workers, index)) for index in range(workers)]
    assert len({len(share) for share in shares}) == 1
    seen: list[int] = []
    for parts in zip(*shares, strict=True):
        assert {part.images.shape for part in parts} == {(batch // workers, 9, 7, 1)}
        assert sum(part.weights.sum() for part in parts) == parts[0].pictures
        for part in parts:
            seen += part.labels[part.weights > 0].tolist()
    assert seen == order.tolist()


@pytest.fixture(scope="module")
def keras() -> Any:
    """Imported late: it takes seconds, and most tests of this file don't need it."""
    return importlib.import_module("keras")


def test_the_default_network_is_the_documented_one(keras: Any) -> None:
    from lepton_workloads.train.network import build_network

    model = build_network(Cnn(), Picture(), 10)
    assert [type(layer).__name__ for layer in model.layers] == [
        "InputLayer", "Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dense",
    ]  # fmt: skip
    assert model.count_params() == 1_125_642


@pytest.mark.parametrize("cnn", [Cnn(convolutions=[4] * 4), Cnn(padding="valid", kernel_size=8)])
def test_too_small_pictures_are_refused(keras: Any, cnn: Cnn) -> None:
    from lepton_workloads.train.network import build_network

    with pytest.raises(WorkloadError, match="pictures of 9 x 7 are too small"):
        build_network(cnn, PICTURE, 3)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("cnn", [Cnn(convolutions=[4], dense=[]), Cnn(convolutions=[4, 3], kernel_size=2)])
def test_the_size_check_agrees_with_keras(keras: Any, cnn: Cnn, padding: str) -> None:
    from lepton_workloads.train.network import build_network

    cnn = cnn.model_copy(update={"padding": padding, "dropout": 0.2})
    assert build_network(cnn, PICTURE, 3).output_shape == (None, 3)


@pytest.mark.parametrize("activation", ["relu", "elu", "gelu", "silu", "tanh"])
def test_every_activation_is_exported_and_computes_the_same(
    keras: Any, activation: Any, tmp_path: Path
) -> None:
    from lepton_workloads.train.evaluate import predict
    from lepton_workloads.train.export import check_export, export
    from lepton_workloads.train.network import build_network, weights_digest

    keras.utils.set_random_seed(1)
    cnn = Cnn(convolutions=[4], dense=[8], activation=activation, dropout=0.5)
    model = build_network(cnn, PICTURE, 3)
    data, normalization = split_of(70), Normalization()
    export(model, cnn, tmp_path)
    expected = predict(model, data, normalization)
    assert expected.shape == (70, 3)
    found, difference = check_export(tmp_path / "model.tflite", data, expected, normalization)
    assert np.abs(found - expected).max() == difference
    assert weights_digest(keras.models.load_model(tmp_path / "model.keras")) == weights_digest(model)
    with pytest.raises(WorkloadError, match="differs from the trained one"):
        check_export(tmp_path / "model.tflite", data, expected + 1e-3, normalization)


def test_dropout_masks_differ_by_worker_layer_and_step(keras: Any) -> None:
    from lepton_workloads.train.dropout import DropoutSeed, SeededDropout

    def mask(worker: int, position: int, step: int) -> bytes:
        layer = SeededDropout(0.5, position, DropoutSeed(seed=7, worker=worker, step=step))
        return bytes(np.asarray(layer(np.ones((4, 16), np.float32), training=True)).tobytes())

    masks = [mask(worker, position, step) for worker in (0, 1) for position in (0, 1) for step in (1, 2)]
    assert len(set(masks)) == 8
    assert mask(1, 1, 2) == masks[-1]
