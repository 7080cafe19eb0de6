"""The training loop: one code path for one worker and for many.

A custom loop, since `model.fit` under MultiWorkerMirroredStrategy is broken with Keras 3 (keras issue
20585). Each step feeds the worker's own slice of the global batch (`step`). All randomness is a function of the seed,
the epoch and the step or picture, so the loop can go on from any step (`checkpoint`).
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.outcome import Epoch, Failure
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.report import ReportServer
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.after_epoch import AfterEpoch
from lepton_workloads.train.agreement import check_agreement
from lepton_workloads.train.checkpoint import Checkpoints, Note
from lepton_workloads.train.data import Batch, Dataset, SplitData
from lepton_workloads.train.network import weights_digest
from lepton_workloads.train.pipeline import Preparation, Prepare, feed
from lepton_workloads.train.progress import Progress, Running
from lepton_workloads.train.state import restore_state, state_of
from lepton_workloads.train.step import Steps
from lepton_workloads.train.stop import Stop
from lepton_workloads.train.watch import GangWatch

log = Log(__name__)


@dataclass
class Trained:
    """What the loop leaves: the model with its weights, and the figures of all epochs."""

    model: Any
    history: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0
    """Wall time of this pod's training."""
    best_epoch: int | None = None
    stopped_early: bool = False
    resumed_from: str | None = None


@dataclass(frozen=True)
class Helpers:
    """What the loop works with beside its data."""

    server: ReportServer
    checkpoints: Checkpoints
    watch: GangWatch
    stop: Stop


class Loop:
    """Trains one network on one dataset as worker `index` of the gang."""

    def __init__(
        self, task: TrainTask, index: int, dataset: Dataset, strategy: Any, helpers: Helpers
    ) -> None:
        self.task = task
        self.index = index
        self.dataset = dataset
        self.helpers = helpers
        self.train = dataset.splits[SplitName.TRAIN]
        self.batch_size = self._batch_size()
        self.steps_per_epoch = math.ceil(len(self.train) / self.batch_size)
        self.steps = Steps(task, index, dataset.manifest, strategy, self.steps_per_epoch)
        training = task.training
        self.preparation = Preparation(dataset.manifest.normalization, training.augment, training.seed)
        self.after_epoch = AfterEpoch(training, self.steps.model, self.steps.optimizer)
        self.trained = Trained(self.steps.model)
        self.epochs = 0
        """Finished ones."""
        self.step = 0
        """Steps done of the next epoch."""
        self.running = Running()
        self.finished = False

    def resume(self, name: str) -> None:
        """Go on from a checkpoint.

        Raises:
            WorkloadError: StorageFailed; InternalError when it does not fit the network.
        """
        checkpoint = self.helpers.checkpoints.load(name)
        note = checkpoint.note
        try:
            best = restore_state(checkpoint.arrays, self.steps.model, self.steps.optimizer)
        except WorkloadError:
            if self.index == 0:
                self.helpers.checkpoints.discard(name)
            raise
        self.epochs, self.step, self.finished = note.epoch, note.step, note.finished
        self.running = Running(**note.sums.model_dump())
        self.trained.history = list(note.history)
        self.trained.stopped_early = note.stopped_early
        self.after_epoch.restore(note.after_epoch, best, note.best_epoch)
        self.trained.resumed_from = name
        weights = weights_digest(self.steps.model)
        log.info(
            "Resumed", checkpoint=name, index=self.index, epoch=note.epoch, step=note.step, weights=weights
        )

    def run(self) -> Trained:
        """Train all epochs that are left.

        Raises:
            WorkloadError: Diverged; StorageFailed; InternalError when the workers' weights differ.
        """
        training = self.task.training
        size = (training.epochs, self.steps_per_epoch, len(self.train))
        progress = Progress(self.helpers.server, *size, lambda: self.steps.learning_rate)
        progress.finished_epoch(self.trained.history)
        with self.helpers.stop.training():
            while not self.finished:
                self._train_epoch(progress)
                self._finish_epoch(progress)
        self.after_epoch.finish()
        self.trained.best_epoch = self.after_epoch.best_epoch
        self.trained.seconds = progress.seconds
        return self.trained

    def _train_epoch(self, progress: Progress) -> None:
        """All steps that are left of the next epoch."""
        epoch = self.epochs + 1
        order = self.train.order(self.task.training.seed, self.epochs)
        asked = time.monotonic()
        start = asked - self.running.seconds
        prepare = self.preparation.training(self.epochs)
        for batch in self._batches(self.train, order, prepare, self.step):
            progress.waited(time.monotonic() - asked)
            self.step += 1
            loss, hits = self.steps.train(batch, self.epochs * self.steps_per_epoch + self.step)
            if not math.isfinite(loss):
                raise self._diverged("the loss is", epoch, self.step)
            self.running.loss += loss
            self.running.hits += hits
            self.running.pictures += batch.pictures
            self.running.seconds = time.monotonic() - start
            self.helpers.watch.beat()
            progress.stepped(batch.pictures, self.step, self.epochs, self.running)
            self._between_steps()
            asked = time.monotonic()

    def _between_steps(self) -> None:
        """Here the state is whole."""
        every = self.task.checkpoint.every_steps
        last = self.step == self.steps_per_epoch and self._is_due(self.epochs + 1)
        if self.index == 0 and (self.helpers.stop.asked or (every and self.step % every == 0 and not last)):
            self._write_checkpoint(weights_digest(self.steps.model))
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        """Only the chief stops by itself: the others go on until it has gone, so that it reaches its next step."""
        if self.index == 0 and self.helpers.stop.asked:
            self.helpers.stop.answer()

    def _finish_epoch(self, progress: Progress) -> None:
        weights = self._check_weights()
        validation_loss, validation_accuracy = self._validate()
        self.epochs += 1
        self.finished = self.epochs >= self.task.training.epochs
        if self.finished and validation_loss is not None and not math.isfinite(validation_loss):
            raise self._diverged("the validation loss is", self.epochs, self.step)
        figures = Epoch(
            epoch=self.epochs,
            loss=self.running.mean_loss,
            accuracy=self.running.accuracy,
            # It may become finite again, but is no number for JSON.
            validation_loss=validation_loss if math.isfinite(validation_loss or 0) else None,
            validation_accuracy=validation_accuracy,
            seconds=self.running.seconds,
            images_per_second=self.running.rate,
            learning_rate=self.steps.learning_rate,
        )
        self.trained.history.append(figures)
        if self.after_epoch.look(figures) and not self.finished:
            self.finished = self.trained.stopped_early = True
            log.info("Stopped early", epoch=self.epochs, best_epoch=self.after_epoch.best_epoch)
        self.running, self.step = Running(), 0
        log.info(
            "Finished epoch", job=self.task.job, index=self.index, weights=weights, **figures.to_json_dict()
        )
        if self.index == 0 and (self._is_due(self.epochs) or self.finished or self.helpers.stop.asked):
            self._write_checkpoint(weights)
        self.helpers.watch.beat()
        progress.finished_epoch(self.trained.history)
        self._stop_if_asked()

    def _is_due(self, epoch: int) -> bool:
        return epoch % self.task.checkpoint.every_epochs == 0

    def _check_weights(self) -> str:
        """Digest of the weights, which must be numbers and the same on all workers."""
        if not all(np.isfinite(weight).all() for weight in self.steps.model.get_weights()):
            raise self._diverged("a weight is", self.epochs + 1, self.step)
        digest = weights_digest(self.steps.model)
        check_agreement(self.steps.gather(digest), self.epochs + 1)
        return digest

    def _write_checkpoint(self, weights: str) -> None:
        trained = self.trained
        note = Note(
            fingerprint=self.helpers.checkpoints.fingerprint,
            epoch=self.epochs,
            step=self.step,
            seed=self.task.training.seed,
            sums=self.running.to_sums(),
            history=trained.history,
            best_epoch=self.after_epoch.best_epoch,
            after_epoch=self.after_epoch.state(),
            finished=self.finished,
            stopped_early=trained.stopped_early,
            weights_digest=weights,
        )
        start = time.monotonic()
        name = self.helpers.checkpoints.write(
            note, state_of(self.steps.model, self.steps.optimizer, self.after_epoch.best)
        )
        self.helpers.server.count(checkpoints=1)
        self.helpers.watch.beat()
        log.info("Wrote a checkpoint", checkpoint=name, seconds=round(time.monotonic() - start, 3))

    def _validate(self) -> tuple[float | None, float | None]:
        """Loss and accuracy over the validation split, each worker doing its slices."""
        split = self.dataset.splits[SplitName.VALIDATION]
        if not len(split):
            return None, None
        sums = np.zeros(2)
        for batch in self._batches(split, np.arange(len(split)), self.preparation.judging):
            sums += self.steps.test(batch)
            self.helpers.watch.beat()
        loss, hits = self.steps.total(sums) / len(split)
        return float(loss), float(hits)

    def _batches(self, split: SplitData, order: Any, prepare: Prepare, start: int = 0) -> Iterator[Batch]:
        share = (self.batch_size, self.task.workers, self.index)
        return feed(split, order, *share, start=start, prepare=prepare)

    def _batch_size(self) -> int:
        """The global batch size, but no larger than the split (rounded up to the workers): padding costs."""
        workers = self.task.workers
        return min(self.task.training.batch_size, math.ceil(len(self.train) / workers) * workers)

    def _diverged(self, what: str, epoch: int, step: int) -> WorkloadError:
        rate = self.task.training.learning_rate
        return WorkloadError(
            Failure.DIVERGED,
            f"{what} no finite number any more in epoch {epoch}, step {step} of {self.steps_per_epoch}: "
            f"lower the learning rate (now {rate:g}) or change the network",
            terminal=True,
        )
