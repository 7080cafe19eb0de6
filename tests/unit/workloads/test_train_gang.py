"""A gang of workers: how it begins, stays together, and ends when one of them is lost."""

import json
import queue
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from lepton_workloads.contract.outcome import EXIT_RETRY, Failure, Outcome, Report
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.report import ReportServer
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train import gate, watch
from lepton_workloads.train.agreement import check_agreement

from .conftest import Pod
from .training import SMALL, Gang, outcome_of, task_of, trained, was_told


def test_two_workers_end_with_equal_weights_and_the_losses_of_one(pod: Pod, key: str, gang: Gang) -> None:
    network = {**SMALL, "dropout": 0.0}
    alone = trained(pod, task_of(key, network=network))
    shutil.rmtree(pod.checkpoints)
    pod.checkpoints.mkdir()
    outputs = [process.communicate(timeout=600)[0] for process in gang(key, network=network)]
    assert outcome_of(pod, 1) == Outcome()
    together = outcome_of(pod, 0).train
    assert together is not None
    assert together.train_loss == pytest.approx(alone.train_loss, rel=1e-4)
    weights = set()
    for output in outputs:
        lines = [json.loads(line) for line in output.splitlines()]
        weights |= {line["weights"] for line in lines if line["message"] == "Trained"}
    assert weights == {together.weights_digest}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_whose_peer_is_killed_or_frozen_ends_and_says_so(
    pod: Pod, key: str, gang: Gang, lost: int, end: signal.Signals
) -> None:
    processes = gang(key, training={"epochs": 10_000, "batchSize": 64})
    was_told(processes[0], "Finished epoch")
    processes[lost].send_signal(end)
    survivor = 1 - lost
    processes[survivor].communicate(timeout=180)
    assert processes[survivor].returncode == EXIT_RETRY
    outcome = outcome_of(pod, survivor)
    assert (outcome.reason, outcome.terminal) == (Failure.PEERS_NOT_READY, False)
    assert (outcome.message or "").startswith(f"no answer from worker {lost} (127.0.0.1:")
    assert list(pod.models.iterdir()) == []


@contextmanager
def chief(
    task: TrainTask, resume: str | None = "", **fields: Any
) -> Iterator[tuple[ReportServer, TrainTask]]:
    """The report of a chief, and the task with its address."""
    told = {"owner_uid": "job-1", "attempt": 1, "phase": "Waiting", "resume": resume} | fields
    with ReportServer(Report(**told), port=0) as server:
        peers = [f"127.0.0.1:{server.port}", *("127.0.0.1:1" for _ in range(task.workers - 1))]
        yield server, task.model_copy(update={"peers": peers})


def test_nobody_starts_before_everybody_knows_that_all_are_there() -> None:
    task = task_of("k", workers=3, peers=["-"] * 3, startupDeadlineSeconds=60)
    with chief(task, "a1/e000001-s000000000-x") as (server, told), ThreadPoolExecutor() as pool:
        first = pool.submit(gate.join, told, 1)
        gathered = pool.submit(gate.gather, told, server)
        until(lambda: server.read_by(1))
        assert server.current.phase == "Waiting"
        assert not first.done()
        assert not gathered.done()
        second = pool.submit(gate.join, told, 2)
        assert {first.result(60), second.result(60)} == {"a1/e000001-s000000000-x"}
        gathered.result(60)
        read = (server.read_by(1), server.read_by(2))
    assert [report and report.phase for report in read] == ["Complete", "Complete"]


def test_a_chief_that_nobody_has_heard_does_not_start() -> None:
    """Another worker's first look is not enough: it has to read the last word."""
    task = task_of("k", workers=2, peers=["-"] * 2, startupDeadlineSeconds=60)
    with chief(task) as (server, told), ThreadPoolExecutor() as pool:
        query = f"?uid={told.job_uid}&attempt=1&worker=1"
        assert gate.fetch_report(told.peers[0], query)
        gathered = pool.submit(gate.gather, told, server)
        until(lambda: server.current.phase == "Complete")
        assert not gathered.done()
        assert gate.fetch_report(told.peers[0], query)
        gathered.result(60)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?uid=other&attempt=1&worker=1",
        "?uid=job-1&attempt=2&worker=1",
        "?uid=job-1&attempt=1&worker=2",
        "?uid=job-1&attempt=1&worker=x",
        "?uid=job-1&attempt=1&worker=99999999999",
    ],
)
def test_readers_that_are_not_of_this_gang_do_not_count(query: str) -> None:
    task = task_of("k", workers=2, peers=["-"] * 2, startupDeadlineSeconds=0)
    with chief(task) as (server, told):
        assert gate.fetch_report(told.peers[0], query)
        with pytest.raises(WorkloadError, match=r"1 of 2 workers did not answer .*: worker 1 \("):
            gate.gather(told, server)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"phase": "Waiting"}, "still waits for others"),
        ({"phase": "Complete", "attempt": 2}, "did not answer"),
        ({"phase": "Complete", "owner_uid": "job-0"}, "did not answer"),
        ({"phase": "Training"}, "still waits for others"),
    ],
)
def test_a_worker_joins_only_a_complete_gang_of_its_own(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(gate, "SECOND_LOOK_SECONDS", 0.0)
    task = task_of("k", workers=2, peers=["-"] * 2, startupDeadlineSeconds=0)
    with chief(task, **fields) as (_, told), pytest.raises(WorkloadError, match=rf"worker 0 .* {words}"):
        gate.join(told, 1)


def until(look: Callable[[], Any]) -> None:
    """Waits for a condition."""
    end = time.monotonic() + 60
    while not look():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_tf_config_names_all_workers() -> None:
    config = json.loads(gate.tf_config(["j-0.j", "j-1.j"], 1))
    assert config["cluster"] == {"worker": ["j-0.j:2222", "j-1.j:2222"]}
    assert config["task"] == {"type": "worker", "index": 1}
    local = json.loads(gate.tf_config(["127.0.0.1:7000"], 0))
    assert local["cluster"] == {"worker": ["127.0.0.1:7001"]}


def test_a_worker_stays_until_the_chief_is_done_or_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "POLL_SECONDS", 0.0)
    with ReportServer(Report(owner_uid="u", phase="Done"), port=0) as server:
        gate.wait_for_chief(task_of("k", peers=[f"127.0.0.1:{server.port}"]))
    gate.wait_for_chief(task_of("k", peers=["127.0.0.1:1"]))


def test_workers_whose_weights_differ_are_named() -> None:
    check_agreement(["aa"] * 3, 1)
    with pytest.raises(
        WorkloadError, match=r"after epoch 4 .*: worker 2 \(bb\) from worker 0 \(aa\)"
    ) as caught:
        check_agreement(["aa", "aa", "bb"], 4)
    assert (caught.value.reason, caught.value.terminal) == (Failure.INTERNAL_ERROR, False)


class Ended:
    """Takes the exit code in place of the end of the process."""

    def __init__(self) -> None:
        self._codes: queue.Queue[int] = queue.Queue()

    def __call__(self, code: int) -> None:
        self._codes.put(code)

    def code(self, seconds: float) -> int:
        """Wait for it."""
        return self._codes.get(timeout=seconds)


@contextmanager
def watched(task: TrainTask, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[watch.GangWatch, Ended]]:
    """Worker 0's watch of a gang, quick, with an end that leaves the process alone."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.02)
    ended = Ended()
    with watch.GangWatch(task, 0, ended) as running:
        yield running, ended


def test_a_peer_that_answers_no_more_ends_the_process(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOST_SECONDS", 0.5)
    with ReportServer(Report(owner_uid="job-1", attempt=1), port=0) as server:
        task = task_of("k", workers=2, peers=["127.0.0.1:1", f"127.0.0.1:{server.port}"])
        with watched(task, monkeypatch) as (running, ended):
            server.update(attempt=2)  # another process took its address
            assert ended.code(60) == EXIT_RETRY
            running.beat()
    outcome = pod.outcome()
    assert outcome is not None
    assert (outcome.reason, outcome.terminal) == (Failure.PEERS_NOT_READY, False)
    assert f"worker 1 (127.0.0.1:{server.port}) has not answered for 0.5 s" in (outcome.message or "")


def test_a_training_that_stands_still_ends_though_all_peers_answer(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STALL_SECONDS", 0.5)
    with ReportServer(Report(owner_uid="job-1", attempt=1), port=0) as server:
        task = task_of("k", workers=2, peers=["127.0.0.1:1", f"127.0.0.1:{server.port}"])
        with watched(task, monkeypatch) as (running, ended):
            running.beat()
            assert ended.code(60) == EXIT_RETRY
    outcome = pod.outcome()
    assert outcome is not None
    assert outcome.reason == Failure.PEERS_NOT_READY
    assert "no step was finished" in (outcome.message or "")
