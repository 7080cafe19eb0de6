"""What watches a figure from epoch to epoch: early stopping and reduction on a plateau, as Keras' callbacks do."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.contract.training import EarlyStopping, LearningRateSchedule, Monitor

PLATEAU_DELTA = 1e-4
"""Keras' min_delta of ReduceLROnPlateau."""


def figure(epoch: Epoch, monitor: Monitor) -> float:
    """The figure that is watched; NaN when the epoch has none."""
    value = {
        "loss": epoch.loss,
        "accuracy": epoch.accuracy,
        "validationLoss": epoch.validation_loss,
        "validationAccuracy": epoch.validation_accuracy,
    }[monitor]
    return math.nan if value is None else value


def _gain(monitor: Monitor, value: float, best: float) -> float:
    """How much better a value is; accuracies grow, losses shrink."""
    return value - best if monitor in ("accuracy", "validationAccuracy") else best - value


def _worst(monitor: Monitor) -> float:
    return -math.inf if monitor in ("accuracy", "validationAccuracy") else math.inf


@dataclass(frozen=True)
class Verdict:
    """Of one epoch."""

    improved: bool
    stop: bool


@dataclass
class _State:
    best: float
    waited: int = 0
    rate: float | None = None


class EarlyStop:
    """keras.callbacks.EarlyStopping: stops after `patience` epochs without an improvement above `min_delta`."""

    def __init__(self, spec: EarlyStopping) -> None:
        self._spec = spec
        self._state = _State(_worst(spec.monitor))

    def after_epoch(self, epoch: Epoch) -> Verdict:
        """The verdict after an epoch; its number counts from 1, `start_from_epoch` from 0 as in Keras."""
        spec, state = self._spec, self._state
        if epoch.epoch - 1 < spec.start_from_epoch:
            return Verdict(improved=False, stop=False)
        value = figure(epoch, spec.monitor)
        if _gain(spec.monitor, value, state.best) > spec.min_delta:
            state.best, state.waited = value, 0
            return Verdict(improved=True, stop=False)
        state.waited += 1
        # As in Keras, a patience of 0 stops at the first epoch that is no better.
        return Verdict(improved=False, stop=state.waited >= spec.patience and epoch.epoch > 1)

    def state(self) -> dict[str, Any]:
        """What a later pod needs to go on."""
        return _to_json(self._state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self._state = _from_json(state, _worst(self._spec.monitor))


class Plateau:
    """keras.callbacks.ReduceLROnPlateau: rate * `factor` after `patience` epochs without improvement."""

    def __init__(self, schedule: LearningRateSchedule, learning_rate: float) -> None:
        self._monitor: Monitor = schedule.monitor or "validationLoss"
        self._factor = 0.1 if schedule.factor is None else schedule.factor
        self._patience = 10 if schedule.patience is None else schedule.patience
        self._smallest = schedule.min_learning_rate or 0.0
        self._state = _State(_worst(self._monitor), rate=learning_rate)

    def after_epoch(self, epoch: Epoch) -> float | None:
        """The new rate, or None when it stays."""
        state = self._state
        value = figure(epoch, self._monitor)
        if _gain(self._monitor, value, state.best) > PLATEAU_DELTA:
            state.best, state.waited = value, 0
            return None
        state.waited += 1
        if state.waited < self._patience or state.rate is None or state.rate <= self._smallest:
            return None
        state.rate, state.waited = max(state.rate * self._factor, self._smallest), 0
        return state.rate

    def state(self) -> dict[str, Any]:
        """What a later pod needs to go on."""
        return _to_json(self._state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self._state = _from_json(state, _worst(self._monitor))


def _to_json(state: _State) -> dict[str, Any]:
    """JSON has no infinity: before the first improvement there is no best value."""
    return {
        name: value for name, value in asdict(state).items() if not (name == "best" and math.isinf(value))
    }


def _from_json(state: dict[str, Any], worst: float) -> _State:
    return _State(**{"best": worst, **state})
