"""What a report says of a training, also of one that went on from a checkpoint."""

from collections.abc import Iterator

import pytest

from lepton_workloads.contract.outcome import Epoch, Report
from lepton_workloads.report import ReportServer
from lepton_workloads.train import progress
from lepton_workloads.train.progress import Progress, Running


@pytest.fixture
def server() -> Iterator[ReportServer]:
    with ReportServer(Report(owner_uid="u"), port=0) as running:
        yield running


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def epoch(number: int) -> Epoch:
    return Epoch(epoch=number, loss=0.5, accuracy=0.75, seconds=10, images_per_second=10, learning_rate=0.1)


def test_a_resumed_training_counts_its_own_pictures_and_expects_the_rest(
    server: ReportServer, clock: Clock
) -> None:
    told = Progress(server, epochs=4, steps=10, pictures=100, rate=lambda: 0.05)
    told.finished_epoch([epoch(1), epoch(2)])
    report = server.current
    assert (report.phase, report.epoch, report.epochs, report.total) == ("Training", 2, 4, 10)
    assert (report.loss, report.learning_rate, report.eta_seconds, report.images) == (0.5, 0.1, None, 0)
    # Four steps of the third epoch were made by an earlier pod, the fifth by this one.
    clock.now += 2
    told.stepped(10, 5, 2, Running(loss=25, hits=40, pictures=50, seconds=5))
    report = server.current
    assert (report.epoch, report.done, report.images) == (2, 5, 10)
    assert (report.loss, report.accuracy, report.images_per_second) == (0.5, 0.8, 10)
    assert report.learning_rate == 0.05
    assert report.eta_seconds == pytest.approx(150 * 2 / 10)
    assert server.counters["steps"] == 1


def test_at_the_end_nothing_is_left_to_wait_for(server: ReportServer, clock: Clock) -> None:
    told = Progress(server, epochs=1, steps=1, pictures=100, rate=lambda: 0.1)
    clock.now += 1
    told.waited(0.25)
    told.stepped(100, 1, 0, Running(loss=25, hits=40, pictures=100, seconds=1))
    told.finished_epoch([epoch(1)])
    assert (server.current.eta_seconds, server.current.images) == (0, 100)
    assert server.counters["feed_wait_seconds"] == 0.25


def test_steps_between_two_reports_are_counted_all(server: ReportServer, clock: Clock) -> None:
    told = Progress(server, epochs=1, steps=3, pictures=30, rate=lambda: 0.1)
    for step in range(1, 4):
        told.stepped(10, step, 0, Running(loss=1, hits=1, pictures=10 * step, seconds=step))
    told.finished_epoch([epoch(1)])
    assert server.counters["steps"] == 3
    assert server.current.images == 30
