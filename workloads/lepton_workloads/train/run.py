"""The way of one worker through a training."""

import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lepton_workloads import __version__
from lepton_workloads.contract.outcome import Outcome, Report
from lepton_workloads.contract.tasks import (
    DATASET_DIR,
    INDEX_ENV,
    SCRATCH_DIR,
    TASK_ENV,
    THREADS_ENV,
    TrainTask,
)
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.report import ReportServer
from lepton_workloads.storage import remove, remove_stale, remove_surely, storage_errors
from lepton_workloads.termination import at_sigterm, printable
from lepton_workloads.train import artifact, gate
from lepton_workloads.train.checkpoint import Checkpoints
from lepton_workloads.train.checks import (
    check_gate,
    check_labels,
    check_monitors,
    check_task,
    check_warm_start,
)
from lepton_workloads.train.data import Dataset, open_dataset
from lepton_workloads.train.stop import Stop
from lepton_workloads.train.watch import GangWatch

if TYPE_CHECKING:
    from lepton_workloads.train.loop import Trained

DONE_SECONDS = 1.5
"""How long the chief's report says Done to workers that wait for it."""

log = Log(__name__)


def main() -> Outcome:
    """Train as the worker of this container's index; the chief brings the result.

    Raises:
        WorkloadError: DatasetNotReady, InvalidData, InvalidSpec, SourceNotFound, PeersNotReady, Diverged,
            ExportFailed, StorageFailed, InternalError (the workers' weights differ).
    """
    task = TrainTask.model_validate_json(os.environ[TASK_ENV])
    index = int(os.environ.get(INDEX_ENV, "0"))
    started = _now()
    check_task(task, index)
    report = Report(owner_uid=task.job_uid, attempt=task.attempt, index=index, epochs=task.training.epochs)
    with ReportServer(report) as server:
        with storage_errors("read the store"):
            recovered = artifact.published(task)
        if recovered is not None:
            server.update(phase="Done")
            return Outcome() if index else recovered
        server.update(phase="Loading")
        dataset = _open(task)
        worker = Worker(task, index, dataset, server, Checkpoints(task), started)
        resume = _meet(worker)
        outcome = _train(worker, resume)
        server.update(phase="Done")
        if task.workers > 1 and index == 0:
            time.sleep(DONE_SECONDS)
    return outcome


@dataclass(frozen=True)
class Worker:
    """One worker of the gang and what it holds before TensorFlow is there."""

    task: TrainTask
    index: int
    dataset: Dataset
    server: ReportServer
    checkpoints: Checkpoints
    started: str


def _open(task: TrainTask) -> Dataset:
    """The task's data, and what can be said against the task before anything is trained."""
    folder = place(DATASET_DIR)
    with storage_errors("read the prepared dataset"):
        dataset = open_dataset(folder, task.dataset_key)
        check_labels(dataset, folder)
        if task.fold:
            dataset = dataset.fold(task.fold, task.training.seed)
    check_gate(task, dataset.manifest.labels)
    check_monitors(task, dataset)
    check_warm_start(task)
    return dataset


def _meet(worker: Worker) -> str:
    """Wait for the gang; the checkpoint that all go on from, empty for none: the chief's choice."""
    task, index, server = worker.task, worker.index, worker.server
    waiting = time.monotonic()
    if index:
        server.update(phase="Waiting")
        chosen = gate.join(task, index)
    else:
        chosen = worker.checkpoints.newest()
        server.update(phase="Waiting", resume=chosen)
        gate.gather(task, server)
    server.count(gang_wait_seconds=time.monotonic() - waiting)
    return chosen


def _train(worker: Worker, resume: str) -> Outcome:
    """From here on TensorFlow is needed, which takes seconds to import."""
    task, index = worker.task, worker.index
    threads = int(os.environ.get(THREADS_ENV, "1"))
    stop = Stop(lambda: index > 0 and gate.is_gone(task.peers[0]))
    at_sigterm(stop.ask)
    with GangWatch(task, index) as watch:
        if task.workers > 1:
            os.environ["TF_CONFIG"] = gate.tf_config(task.peers, index)
        from lepton_workloads.train import runtime
        from lepton_workloads.train.network import check_size, weights_digest

        check_size(task.network, worker.dataset.manifest.picture)
        with runtime.gang_errors(task, index):
            strategy = runtime.start(task, threads)
            from lepton_workloads.train.loop import Helpers, Loop

            helpers = Helpers(worker.server, worker.checkpoints, watch, stop)
            loop = Loop(task, index, worker.dataset, strategy, helpers)
            if resume:
                loop.resume(resume)
            trained = loop.run()
    log.info("Trained", job=task.job, index=index, weights=weights_digest(trained.model))
    if index:
        gate.wait_for_chief(task)
        return Outcome()
    finish = _finish_fold if task.fold else _finish_version
    outcome = finish(worker, trained, threads)
    worker.checkpoints.remove_all()
    return outcome


def _finish_fold(worker: Worker, trained: "Trained", _threads: int) -> Outcome:
    """Judge a fold and keep its figures."""
    from lepton_workloads.train.evaluate import fold_metrics

    worker.server.update(phase="Evaluating", eta_seconds=0.0)
    metrics = fold_metrics(worker.task, worker.dataset, trained)
    with storage_errors("write the result of the fold"):
        artifact.publish_fold(worker.task, metrics.result, metrics)
    return Outcome(fold=metrics.result)


def _finish_version(worker: Worker, trained: "Trained", threads: int) -> Outcome:
    """Judge, export and publish."""
    from lepton_workloads.train.version import write_version

    folder = artifact.temporary_folder()
    at_sigterm(lambda: remove_surely(folder))
    try:
        with storage_errors("write the model version"):
            remove_stale(folder.parent)
            remove(folder)
            folder.mkdir()
            facts = _lineage_facts(worker, trained, threads)
            result = write_version(folder, worker.task, worker.dataset, trained, worker.server, facts)
            artifact.publish(folder, result)
    finally:
        remove(folder)
    return Outcome(train=result)


def _lineage_facts(worker: Worker, trained: "Trained", threads: int) -> dict[str, Any]:
    task = worker.task
    return {
        "job": task.job,
        "job_uid": task.job_uid,
        "attempt": task.attempt,
        "dataset": task.dataset_name,
        "dataset_key": task.dataset_key,
        "image": task.image,
        "code_version": __version__,
        "seed": task.training.seed,
        "workers": task.workers,
        "threads": threads,
        "cpu": _cpu(),
        "python": platform.python_version(),
        "network": task.network.to_json_dict(),
        "training": task.training.to_json_dict(),
        "warm_start": task.warm_start.digest if task.warm_start else None,
        "resumed_from": trained.resumed_from,
        "started": worker.started,
        "finished": _now(),
    }


def _cpu() -> str:
    """The CPU's model: with the threads it decides the last bits of the weights."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return printable(line.partition(":")[2].strip(), 200)
    except OSError:
        pass
    return platform.machine()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def set_up_environment() -> None:
    """Before TensorFlow and NumPy are imported: no writes outside the scratch folder, few messages.

    The root file system is read-only and the user has no home and no name.
    """
    scratch = str(place(SCRATCH_DIR))
    threads = os.environ.get(THREADS_ENV, "1")
    for name, value in {
        "HOME": scratch,
        "XDG_CACHE_HOME": scratch,
        "KERAS_HOME": f"{scratch}/keras",
        "KERAS_BACKEND": "tensorflow",
        "TMPDIR": scratch,
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }.items():
        os.environ[name] = value
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("USER", "lepton")
