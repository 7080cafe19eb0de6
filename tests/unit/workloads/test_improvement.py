"""Early stopping and the plateau decide as Keras' callbacks do, and go on from a saved state."""

import importlib
import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.contract.training import EarlyStopping, LearningRateSchedule, Monitor
from lepton_workloads.train.improvement import EarlyStop, Plateau

FIELDS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "validationLoss": "validation_loss",
    "validationAccuracy": "validation_accuracy",
}
values = st.lists(st.sampled_from([0.2, 0.5, 0.50005, 0.51, 0.7, 0.9]), min_size=1, max_size=25)
monitors = st.sampled_from(list(FIELDS))


@pytest.fixture(scope="module")
def callbacks() -> Any:
    """Imported late: it takes seconds."""
    return importlib.import_module("keras").callbacks


def epochs(monitor: Monitor, figures: list[float]) -> list[Epoch]:
    """Epochs of which only one figure is telling."""
    rest = dict.fromkeys(FIELDS.values(), 0.5)
    return [
        Epoch(epoch=number, seconds=1, images_per_second=1, **{**rest, FIELDS[monitor]: value})
        for number, value in enumerate(figures, start=1)
    ]


def mode(monitor: Monitor) -> str:
    return "min" if monitor.lower().endswith("loss") else "max"


@settings(deadline=None)
@given(
    figures=values,
    monitor=monitors,
    patience=st.integers(0, 4),
    delta=st.sampled_from([0, 0.015, 0.3]),
    first=st.integers(0, 5),
    pause=st.integers(0, 24),
)
def test_early_stopping_ends_when_keras_does_and_knows_the_same_best_epoch(
    callbacks: Any, figures: list[float], monitor: Any, patience: int, delta: float, first: int, pause: int
) -> None:
    spec = EarlyStopping(monitor=monitor, patience=patience, min_delta=delta, start_from_epoch=first)
    theirs = callbacks.EarlyStopping(
        "figure",
        min_delta=delta,
        patience=patience,
        mode=mode(monitor),
        start_from_epoch=first,
        restore_best_weights=True,
    )
    model = SimpleNamespace(stop_training=False, get_weights=list)
    theirs.set_model(model)
    theirs.on_train_begin()
    ours, best = EarlyStop(spec), None
    for number, epoch in enumerate(epochs(monitor, figures)):
        theirs.on_epoch_end(number, {"figure": figures[number]})
        verdict = ours.after_epoch(epoch)
        best = number if verdict.improved else best
        assert verdict.stop == model.stop_training
        if best is not None:
            assert best == theirs.best_epoch
        if verdict.stop:
            return
        if number == pause:
            saved, ours = json.loads(json.dumps(ours.state())), EarlyStop(spec)
            ours.restore(saved)


@settings(deadline=None)
@given(
    figures=values,
    monitor=monitors,
    patience=st.integers(0, 4),
    factor=st.sampled_from([0.1, 0.5]),
    least=st.sampled_from([0, 0.02]),
    pause=st.integers(0, 24),
)
def test_the_plateau_lowers_the_rate_as_keras_does(
    callbacks: Any, figures: list[float], monitor: Any, patience: int, factor: float, least: float, pause: int
) -> None:
    schedule = LearningRateSchedule(
        type="ReduceLROnPlateau",
        monitor=monitor,
        patience=patience,
        factor=factor,
        min_learning_rate=least,
    )
    theirs = callbacks.ReduceLROnPlateau(
        "figure", factor=factor, patience=patience, mode=mode(monitor), min_lr=least
    )
    model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1))
    theirs.set_model(model)
    theirs.on_train_begin()
    ours, rate = Plateau(schedule, 0.1), 0.1
    for number, epoch in enumerate(epochs(monitor, figures)):
        theirs.on_epoch_end(number, {"figure": figures[number]})
        new = ours.after_epoch(epoch)
        rate = rate if new is None else new
        assert rate == pytest.approx(model.optimizer.learning_rate)
        if number == pause:
            saved, ours = json.loads(json.dumps(ours.state())), Plateau(schedule, 0.1)
            ours.restore(saved)


def test_what_is_left_out_has_keras_defaults(callbacks: Any) -> None:
    theirs = callbacks.ReduceLROnPlateau()
    ours = Plateau(LearningRateSchedule(type="ReduceLROnPlateau"), 0.1)
    figures = epochs("validationLoss", [0.5] * (theirs.patience + 1))
    assert theirs.monitor == "val_loss"
    assert [ours.after_epoch(epoch) for epoch in figures[:-1]] == [None] * theirs.patience
    assert ours.after_epoch(figures[-1]) == pytest.approx(0.1 * theirs.factor)


def test_an_epoch_without_the_figure_is_none_that_improves() -> None:
    early = EarlyStop(EarlyStopping(patience=2))
    good, *bad = epochs("validationLoss", [0.5, 0.1, 0.1])
    bad = [epoch.model_copy(update={"validation_loss": None}) for epoch in bad]
    assert early.after_epoch(good).improved
    verdicts = [early.after_epoch(epoch) for epoch in bad]
    assert [verdict.improved for verdict in verdicts] == [False, False]
    assert [verdict.stop for verdict in verdicts] == [False, True]
    assert math.isfinite(early.state()["best"])
