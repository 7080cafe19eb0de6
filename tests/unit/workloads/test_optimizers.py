"""Optimizers, schedules and losses are Keras' own, told in epochs and our names."""

import importlib
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.training import Training

PER_EPOCH = 10
EPOCHS = 8


@pytest.fixture(scope="module")
def keras() -> Any:
    """Imported late: it takes seconds."""
    return importlib.import_module("keras")


def training(**fields: Any) -> Training:
    return Training.model_validate({"epochs": EPOCHS, "learningRate": 0.5, **fields})


def optimizer_of(**fields: Any) -> Any:
    from lepton_workloads.train.optimizers import make_optimizer

    return make_optimizer(training(**fields), PER_EPOCH)


def walk(keras: Any, optimizer: Any, steps: int, start: Any = None) -> list[Any]:
    """Two variables after each step on fixed gradients, some of them large."""
    variables = start or [keras.Variable([1.0, -2.0]), keras.Variable([[0.5], [3.0]])]
    if not optimizer.built:
        optimizer.build(variables)
    seen = []
    for _ in range(steps):
        number = int(optimizer.iterations)
        gradients = [np.array([0.3, -0.7]) * (number + 1), np.array([[2.0], [-0.1]]) / (number + 1)]
        optimizer.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients], variables)
        seen.append([variable.numpy() for variable in variables])
    return seen


@pytest.mark.parametrize(
    ("name", "given", "theirs"),
    [
        ("adam", {}, lambda o: o.Adam(0.5)),
        ("adam", {"beta1": 0.8, "beta2": 0.9, "epsilon": 0.1}, lambda o: o.Adam(0.5, 0.8, 0.9, 0.1)),
        ("adam", {"clipNorm": 0.1}, lambda o: o.Adam(0.5, clipnorm=0.1)),
        ("adamw", {}, lambda o: o.AdamW(0.5)),
        ("adamw", {"weightDecay": 0.2}, lambda o: o.AdamW(0.5, weight_decay=0.2)),
        ("nadam", {"beta1": 0.7}, lambda o: o.Nadam(0.5, 0.7)),
        ("rmsprop", {"rho": 0.5, "momentum": 0.3}, lambda o: o.RMSprop(0.5, 0.5, 0.3)),
        ("rmsprop", {"epsilon": 0.01}, lambda o: o.RMSprop(0.5, epsilon=0.01)),
        ("sgd", {"momentum": 0.9, "nesterov": True}, lambda o: o.SGD(0.5, 0.9, nesterov=True)),
        ("sgd", {"weightDecay": 0.01}, lambda o: o.SGD(0.5, weight_decay=0.01)),
        ("sgd", {"clipValue": 0.2}, lambda o: o.SGD(0.5, clipvalue=0.2)),
        ("sgd", {"globalClipNorm": 0.2}, lambda o: o.SGD(0.5, global_clipnorm=0.2)),
    ],
)
def test_an_optimizer_walks_as_that_of_keras(keras: Any, name: str, given: Any, theirs: Any) -> None:
    ours = optimizer_of(optimizer=name, optimizerParameters=given)
    found = walk(keras, ours, 4)
    wanted = walk(keras, theirs(keras.optimizers), 4)
    assert np.array_equal(np.concatenate(found[-1], None), np.concatenate(wanted[-1], None))
    if given:
        plain = walk(keras, optimizer_of(optimizer=name), 4)
        assert not np.array_equal(np.concatenate(found[-1], None), np.concatenate(plain[-1], None))


SCHEDULES: list[tuple[dict[str, Any], Any]] = [
    ({"type": "CosineDecay"}, lambda s: s.CosineDecay(0.5, 80)),
    ({"type": "CosineDecay", "decayEpochs": 2.5, "alpha": 0.1}, lambda s: s.CosineDecay(0.5, 25, 0.1)),
    (
        {"type": "CosineDecay", "warmupEpochs": 2},
        lambda s: s.CosineDecay(0.0, 60, warmup_target=0.5, warmup_steps=20),
    ),
    (
        {"type": "ExponentialDecay", "decayEpochs": 2, "decayRate": 0.5},
        lambda s: s.ExponentialDecay(0.5, 20, 0.5),
    ),
    (
        {"type": "ExponentialDecay", "decayEpochs": 2, "decayRate": 0.5, "staircase": True},
        lambda s: s.ExponentialDecay(0.5, 20, 0.5, staircase=True),
    ),
    ({"type": "PolynomialDecay"}, lambda s: s.PolynomialDecay(0.5, 80)),
    (
        {"type": "PolynomialDecay", "decayEpochs": 4, "endLearningRate": 0.01, "power": 2},
        lambda s: s.PolynomialDecay(0.5, 40, 0.01, 2.0),
    ),
    ({"type": "PolynomialDecay", "endLearningRate": 0}, lambda s: s.PolynomialDecay(0.5, 80, 0.0)),
]


@pytest.mark.parametrize(("given", "theirs"), SCHEDULES)
def test_a_schedule_is_that_of_keras_with_epochs_for_steps(keras: Any, given: Any, theirs: Any) -> None:
    from lepton_workloads.train.optimizers import learning_rate

    ours, wanted = (
        learning_rate(training(learningRateSchedule=given), PER_EPOCH),
        theirs(keras.optimizers.schedules),
    )
    assert [float(ours(step)) for step in range(90)] == [float(wanted(step)) for step in range(90)]


def test_piecewise_rates_change_with_the_first_step_of_an_epoch(keras: Any) -> None:
    optimizer = optimizer_of(
        optimizer="sgd",
        learningRateSchedule={
            "type": "PiecewiseConstantDecay",
            "boundaries": [1, 2.5],
            "values": [0.1, 0.2, 0.3],
        },
    )
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    taken = []
    for _ in range(30):
        before = float(variable)
        optimizer.apply([keras.ops.convert_to_tensor(1.0)], [variable])
        taken.append(round(before - float(variable), 4))
    assert taken == [0.1] * 10 + [0.2] * 15 + [0.3] * 5


def test_a_warm_up_longer_than_the_training_is_all_of_it(keras: Any) -> None:
    from lepton_workloads.train.optimizers import learning_rate

    rate = learning_rate(
        training(learningRateSchedule={"type": "CosineDecay", "warmupEpochs": 16}), PER_EPOCH
    )
    assert [float(rate(step)) for step in (0, 40, 80)] == pytest.approx([0, 0.125, 0.25])


def test_the_plateau_begins_with_the_plain_rate(keras: Any) -> None:
    optimizer = optimizer_of(learningRateSchedule={"type": "ReduceLROnPlateau"})
    assert float(optimizer.learning_rate) == 0.5
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == 0.25


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "rmsprop", "sgd"])
@pytest.mark.parametrize("schedule", [None, {"type": "CosineDecay"}])
def test_an_optimizer_goes_on_from_its_variables(keras: Any, name: str, schedule: Any) -> None:
    parameters = {"momentum": 0.9} if name in ("sgd", "rmsprop") else {}
    fields = {
        "optimizer": name,
        "optimizerParameters": parameters,
        **({"learningRateSchedule": schedule} if schedule else {}),
    }
    whole = walk(keras, optimizer_of(**fields), 7)
    first = optimizer_of(**fields)
    variables = [keras.Variable(value) for value in walk(keras, first, 3)[-1]]
    second = optimizer_of(**fields)
    second.build(variables)
    for variable, value in zip(second.variables, [v.numpy() for v in first.variables], strict=True):
        variable.assign(value)
    rest = walk(keras, second, 4, variables)
    for ours, wanted in zip(rest, whole[3:], strict=True):
        assert np.array_equal(np.concatenate(ours, None), np.concatenate(wanted, None))


PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [1, 0, 0]], np.float32)
LABELS = np.array([0, 0, 1, 2], np.int32)


def losses(**fields: Any) -> Any:
    from lepton_workloads.train.losses import picture_losses

    return np.array(picture_losses(training(**fields), 3)(LABELS, PROBABILITIES))


@pytest.mark.parametrize(
    ("given", "theirs"),
    [
        ({}, lambda k: k.losses.SparseCategoricalCrossentropy()),
        ({"loss": "categorical_crossentropy"}, lambda k: k.losses.CategoricalCrossentropy()),
        (
            {"loss": "categorical_crossentropy", "labelSmoothing": 0.2},
            lambda k: k.losses.CategoricalCrossentropy(label_smoothing=0.2),
        ),
        ({"loss": "categorical_focal_crossentropy"}, lambda k: k.losses.CategoricalFocalCrossentropy()),
        (
            {"loss": "categorical_focal_crossentropy", "labelSmoothing": 0.1},
            lambda k: k.losses.CategoricalFocalCrossentropy(label_smoothing=0.1),
        ),
    ],
)
def test_the_loss_of_the_pictures_has_the_mean_that_keras_computes(
    keras: Any, given: Any, theirs: Any
) -> None:
    found = losses(**given)
    assert found.shape == (4,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    labels = LABELS if not given else np.eye(3, dtype=np.float32)[LABELS]
    assert found.mean() == pytest.approx(float(theirs(keras)(labels, PROBABILITIES)), rel=1e-6)


def test_one_hot_labels_without_smoothing_cost_what_sparse_ones_do(keras: Any) -> None:
    assert losses(loss="categorical_crossentropy") == pytest.approx(losses(), rel=1e-6)
