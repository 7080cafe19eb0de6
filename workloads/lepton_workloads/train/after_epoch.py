"""What follows from the figures of an epoch: a lower learning rate, the end, the best weights."""

from typing import Any

from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.contract.training import Training
from lepton_workloads.train.improvement import EarlyStop, Plateau
from lepton_workloads.train.state import Weights, get_weights, set_weights


class AfterEpoch:
    """Keras' ReduceLROnPlateau and EarlyStopping; all workers see the same figures and decide alike."""

    def __init__(self, training: Training, model: Any, optimizer: Any) -> None:
        self._model = model
        self._optimizer = optimizer
        schedule, early = training.learning_rate_schedule, training.early_stopping
        reduces = schedule is not None and schedule.type == "ReduceLROnPlateau"
        self._plateau = Plateau(schedule, training.learning_rate) if schedule and reduces else None
        self._spec = early
        self._early = EarlyStop(early) if early else None
        self.best: Weights | None = None
        self.best_epoch: int | None = None

    def look(self, figures: Epoch) -> bool:
        """After each epoch; True when the training ends here."""
        if self._plateau:
            rate = self._plateau.after_epoch(figures)
            if rate is not None:
                self._optimizer.learning_rate = rate
        if not self._early or not self._spec:
            return False
        verdict = self._early.after_epoch(figures)
        # As in Keras, the first epoch that it looks at is the best one until another improves.
        watched = figures.epoch > self._spec.start_from_epoch
        if self._spec.restore_best_weights and watched and (verdict.improved or self.best is None):
            self.best, self.best_epoch = get_weights(self._model), figures.epoch
        return verdict.stop

    def finish(self) -> None:
        """At the end of the training: the best weights become the model's, as in Keras also without a stop."""
        if self.best is not None:
            set_weights(self._model, self.best)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; the best weights go with the arrays."""
        parts = {"plateau": self._plateau, "early_stop": self._early}
        return {name: part.state() for name, part in parts.items() if part}

    def restore(self, state: dict[str, Any], best: Weights | None, best_epoch: int | None) -> None:
        """Go on from a checkpoint of the same spec."""
        if self._plateau:
            self._plateau.restore(state["plateau"])
        if self._early:
            self._early.restore(state["early_stop"])
        self.best, self.best_epoch = best, best_epoch
