"""How far the training is, in the report that the operator pulls and in the metrics."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.report import ReportServer
from lepton_workloads.train.checkpoint import Sums

REPORT_SECONDS = 0.5


@dataclass
class Running:
    """What the running epoch has summed up, over the whole gang."""

    loss: float = 0.0
    hits: float = 0.0
    pictures: int = 0
    seconds: float = 0.0
    """In this epoch, all pods together."""

    @property
    def mean_loss(self) -> float:
        """Of a picture."""
        return self.loss / self.pictures

    @property
    def accuracy(self) -> float:
        """Share of hits."""
        return self.hits / self.pictures

    @property
    def rate(self) -> float:
        """Pictures in a second."""
        return self.pictures / self.seconds

    def to_sums(self) -> Sums:
        """For a checkpoint."""
        return Sums(loss=self.loss, hits=self.hits, pictures=self.pictures, seconds=self.seconds)


class Progress:
    """Tells the report; what is counted and how fast it goes are this pod's own.

    Args:
        pictures: of an epoch.
        rate: tells the learning rate of the next step.
    """

    def __init__(
        self, server: ReportServer, epochs: int, steps: int, pictures: int, rate: Callable[[], float]
    ) -> None:
        self._server = server
        self._epochs = epochs
        self._pictures = pictures
        self._rate = rate
        self._images = 0
        self._steps = 0
        self._waited = 0.0
        self._started = self._next = time.monotonic()
        server.update(phase="Training", epochs=epochs, total=steps)

    @property
    def seconds(self) -> float:
        """Since this pod began to train."""
        return time.monotonic() - self._started

    def waited(self, seconds: float) -> None:
        """The step waited so long for its batch."""
        self._waited += seconds

    def stepped(self, pictures: int, done: int, epochs: int, running: Running) -> None:
        """A step of `pictures` was made, number `done` of the epoch after `epochs` finished ones."""
        self._images += pictures
        self._steps += 1
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + REPORT_SECONDS
        self._count()
        self._server.update(
            done=done,
            loss=running.mean_loss,
            accuracy=running.accuracy,
            images_per_second=running.rate,
            learning_rate=self._rate(),
            images=self._images,
            eta_seconds=self._eta((self._epochs - epochs) * self._pictures - running.pictures),
        )

    def finished_epoch(self, history: list[Epoch]) -> None:
        """An epoch was finished, or a training went on from that point."""
        self._count()
        if not history:
            return
        last = history[-1]
        self._server.update(
            epoch=last.epoch,
            done=0,
            loss=last.loss,
            accuracy=last.accuracy,
            images_per_second=last.images_per_second,
            learning_rate=last.learning_rate,
            images=self._images,
            eta_seconds=self._eta((self._epochs - last.epoch) * self._pictures),
            history=history,
        )

    def _eta(self, pictures: int) -> float | None:
        """Validation and checkpoints are part of the time so far, and so of the rest."""
        if not self._images:
            return None
        return min(max(pictures, 0) * self.seconds / self._images, 1e9)

    def _count(self) -> None:
        self._server.count(steps=self._steps, feed_wait_seconds=self._waited)
        self._steps, self._waited = 0, 0.0
