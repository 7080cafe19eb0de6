"""The way of one worker through a training."""

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lepton_workloads import __version__
from lepton_workloads.contract.outcome import Failure, Outcome, Report, TrainResult
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
from lepton_workloads.storage import remove, remove_stale, storage_errors
from lepton_workloads.termination import WorkloadError, at_sigterm, printable
from lepton_workloads.train import artifact, gate
from lepton_workloads.train.checkpoint import Checkpoints
from lepton_workloads.train.data import Dataset, open_dataset
from lepton_workloads.train.stop import Stop
from lepton_workloads.train.watch import GangWatch

DONE_SECONDS = 1.5
"""How long the chief's report says Done to workers that wait for it."""

log = Log(__name__)


def main() -> Outcome:
    """Train as the worker of this container's index; the chief brings the result.

    Raises:
        WorkloadError: DatasetNotReady, InvalidData, InvalidSpec, PeersNotReady, Diverged, ExportFailed,
            StorageFailed.
    """
    task = TrainTask.model_validate_json(os.environ[TASK_ENV])
    index = int(os.environ.get(INDEX_ENV, "0"))
    started = _now()
    _check_task(task, index)
    report = Report(owner_uid=task.job_uid, attempt=task.attempt, index=index, epochs=task.training.epochs)
    with ReportServer(report) as server:
        with storage_errors("read the store"):
            recovered = artifact.published_result()
        if recovered is not None:
            log.info("Found the version that an earlier pod published", digest=recovered.digest)
            server.update(phase="Done")
            return Outcome(train=None if index else recovered)
        server.update(phase="Loading")
        with storage_errors("read the prepared dataset"):
            dataset = open_dataset(place(DATASET_DIR), task.dataset_key)
        checkpoints = Checkpoints(task)
        resume = "" if index else checkpoints.newest()
        server.update(phase="Waiting", resume=None if index else resume)
        waiting = time.monotonic()
        resume = gate.wait_for_gang(task, index) or resume
        server.count(gang_wait_seconds=time.monotonic() - waiting)
        result = _train(task, index, dataset, server, started, checkpoints, resume)
        server.update(phase="Done")
        if task.workers > 1 and index == 0:
            time.sleep(DONE_SECONDS)
    return Outcome(train=result)


def _check_task(task: TrainTask, index: int) -> None:
    wrong = None
    if len(task.peers) != task.workers or not 0 <= index < task.workers:
        wrong = f"worker {index} of {task.workers} has {len(task.peers)} peers"
    elif task.training.batch_size % task.workers:
        wrong = f"batchSize {task.training.batch_size} is not a multiple of the {task.workers} workers"
    if wrong:
        raise WorkloadError(Failure.INVALID_SPEC, wrong, terminal=True)


def _train(
    task: TrainTask,
    index: int,
    dataset: Dataset,
    server: ReportServer,
    started: str,
    checkpoints: Checkpoints,
    resume: str,
) -> TrainResult | None:
    """From here on TensorFlow is needed, which takes seconds to import."""
    threads = int(os.environ.get(THREADS_ENV, "1"))
    stop = Stop(lambda: index > 0 and gate.is_gone(task.peers[0]))
    at_sigterm(stop.ask)
    with GangWatch(task, index) as watch:
        if task.workers > 1:
            os.environ["TF_CONFIG"] = gate.tf_config(task.peers, index)
        from lepton_workloads.train import runtime
        from lepton_workloads.train.network import check_size, weights_digest

        check_size(task.network, dataset.manifest.picture)
        with runtime.gang_errors(task.workers):
            strategy = runtime.start(task, threads)
            from lepton_workloads.train.loop import Helpers, Loop

            loop = Loop(task, index, dataset, strategy, Helpers(server, checkpoints, watch, stop))
            if resume:
                loop.resume(resume)
            trained = loop.run()
    log.info("Trained", job=task.job, index=index, weights=weights_digest(trained.model))
    if index:
        gate.wait_for_chief(task)
        return None
    from lepton_workloads.train.version import write_version

    folder = artifact.temporary_folder()
    at_sigterm(lambda: remove(folder))
    try:
        with storage_errors("write the model version"):
            remove_stale(folder.parent)
            remove(folder)
            folder.mkdir()
            facts = _lineage_facts(task, threads, started)
            result = write_version(folder, task, dataset, trained, server, facts)
            artifact.publish(folder, result)
            checkpoints.remove_all()
    finally:
        remove(folder)
    return result


def _lineage_facts(task: TrainTask, threads: int, started: str) -> dict[str, Any]:
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
        "started": started,
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
