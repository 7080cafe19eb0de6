"""The optimizer and its learning rate, by Keras' names; times of schedules are in epochs and become steps here."""

from typing import Any

import keras

from lepton_workloads.contract.training import LearningRateSchedule, Training

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
_KERAS_NAMES = {"clip_norm": "clipnorm", "clip_value": "clipvalue", "global_clip_norm": "global_clipnorm"}
"""Where a field's name isn't Keras' own."""


def make_optimizer(training: Training, steps_per_epoch: int) -> Any:
    """The optimizer; what its variables hold is all that is needed to go on from a step."""
    given = training.optimizer_parameters
    values = given.model_dump(exclude_none=True) if given else {}
    parameters = {_KERAS_NAMES.get(name, name): value for name, value in values.items()}
    rate = learning_rate(training, steps_per_epoch)
    return OPTIMIZERS[training.optimizer](learning_rate=rate, **parameters)


def learning_rate(training: Training, steps_per_epoch: int) -> Any:
    """A number, or Keras' schedule over steps; ReduceLROnPlateau begins with a number and is asked after each epoch."""
    schedule, start = training.learning_rate_schedule, training.learning_rate
    if schedule is None or schedule.type == "ReduceLROnPlateau":
        return start
    kinds = {
        "CosineDecay": _cosine,
        "ExponentialDecay": _exponential,
        "PolynomialDecay": _polynomial,
        "PiecewiseConstantDecay": _piecewise,
    }
    return kinds[schedule.type](schedule, start, training.epochs, steps_per_epoch)


def _steps(epochs: float, steps_per_epoch: int) -> int:
    return max(1, round(epochs * steps_per_epoch))


def _cosine(schedule: LearningRateSchedule, start: float, epochs: int, per_epoch: int) -> Any:
    """With a warm-up the rate rises from 0 to `start`, and the decay begins there."""
    warm = schedule.warmup_epochs or 0.0
    decay = _steps(schedule.decay_epochs or epochs - warm, per_epoch)
    alpha = schedule.alpha or 0.0
    if not warm:
        return keras.optimizers.schedules.CosineDecay(start, decay, alpha=alpha)
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay, alpha=alpha, warmup_target=start, warmup_steps=_steps(warm, per_epoch)
    )


def _exponential(schedule: LearningRateSchedule, start: float, epochs: int, per_epoch: int) -> Any:
    return keras.optimizers.schedules.ExponentialDecay(
        start,
        _steps(schedule.decay_epochs or epochs, per_epoch),
        schedule.decay_rate,
        staircase=bool(schedule.staircase),
    )


def _polynomial(schedule: LearningRateSchedule, start: float, epochs: int, per_epoch: int) -> Any:
    end = 0.0001 if schedule.end_learning_rate is None else schedule.end_learning_rate
    decay = _steps(schedule.decay_epochs or epochs, per_epoch)
    return keras.optimizers.schedules.PolynomialDecay(start, decay, end, power=schedule.power or 1.0)


def _piecewise(schedule: LearningRateSchedule, _start: float, _epochs: int, per_epoch: int) -> Any:
    """A boundary of Keras is the last step that has the value before it; steps count from 0."""
    boundaries = [_steps(epoch, per_epoch) - 1 for epoch in schedule.boundaries or ()]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, list(schedule.values or ()))
