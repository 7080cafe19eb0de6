"""The start gate: TensorFlow is started only when every worker of this attempt is there.

TensorFlow waits an hour for a missing peer and listens only after its own start, so the gate asks the
report ports, which open first. A peer is a host name; `host:port` names a report port, and then the next
port is TensorFlow's (for several workers on one host).
"""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lepton_workloads.contract.outcome import EXIT_RETRY, Failure, Report, parse_report
from lepton_workloads.contract.tasks import GANG_PORT, REPORT_PORT, TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.termination import WorkloadError, exit_now, failed_outcome, write_outcome

POLL_SECONDS = 0.5
TIMEOUT_SECONDS = 2.0
MAX_REPORT_BYTES = 64 * 1024
LOST_SECONDS = 60.0
"""A peer that imports TensorFlow on a crowded node may not answer for many seconds."""

log = Log(__name__)


def report_address(peer: str) -> tuple[str, int]:
    """Host and port of a peer's report."""
    host, _, port = peer.partition(":")
    return host, int(port) if port else REPORT_PORT


def tf_config(peers: Sequence[str], index: int) -> str:
    """TF_CONFIG for worker `index`; index 0 is the chief."""
    workers = []
    for peer in peers:
        host, port = report_address(peer)
        workers.append(f"{host}:{port + 1 if ':' in peer else GANG_PORT}")
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


def fetch_report(peer: str) -> Report | None:
    """A peer's report, None when it doesn't answer or answers nonsense."""
    connection = http.client.HTTPConnection(*report_address(peer), timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/report")
        response = connection.getresponse()
        if response.status != 200:
            return None
        return parse_report(json.loads(response.read(MAX_REPORT_BYTES)))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def is_there(peer: str, task: TrainTask) -> bool:
    """The peer answers, and for this job and attempt."""
    report = fetch_report(peer)
    return report is not None and (report.owner_uid, report.attempt) == (task.job_uid, task.attempt)


def wait_for_gang(task: TrainTask, index: int) -> None:
    """Return when every other worker has answered once.

    Raises:
        WorkloadError: PeersNotReady after `startup_deadline_seconds`, naming the missing workers.
    """
    end = time.monotonic() + task.startup_deadline_seconds
    missing = [worker for worker in range(task.workers) if worker != index]
    while missing:
        missing = [worker for worker in missing if not is_there(task.peers[worker], task)]
        if not missing:
            break
        if time.monotonic() >= end:
            names = ", ".join(f"{worker} ({task.peers[worker]})" for worker in missing[:5])
            raise WorkloadError(
                Failure.PEERS_NOT_READY,
                f"{len(missing)} of {task.workers} workers did not answer within "
                f"{task.startup_deadline_seconds} s: worker {names}; see why their pods don't run",
                terminal=False,
            )
        time.sleep(POLL_SECONDS)
    log.info("Passed the start gate", workers=task.workers, index=index)


@contextmanager
def guarded_start(task: TrainTask, index: int, end: Callable[[int], None] = exit_now) -> Iterator[None]:
    """End the process when a peer is lost while TensorFlow's own start waits for it, for up to an hour.

    After the start, TensorFlow itself notices lost peers within 20 s.
    """
    done = threading.Event()

    def watch() -> None:
        seen = dict.fromkeys((worker for worker in range(task.workers) if worker != index), time.monotonic())
        while not done.wait(TIMEOUT_SECONDS):
            for worker in seen:
                if is_there(task.peers[worker], task):
                    seen[worker] = time.monotonic()
                elif time.monotonic() - seen[worker] > LOST_SECONDS and not done.is_set():
                    text = f"worker {worker} ({task.peers[worker]}) was lost while the gang started"
                    error = WorkloadError(Failure.PEERS_NOT_READY, text, terminal=False)
                    log.error("Failed", reason=error.reason, detail=text)
                    write_outcome(failed_outcome(error))
                    end(EXIT_RETRY)
                    return

    if task.workers > 1:
        threading.Thread(target=watch, name="start-guard", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def wait_for_chief(task: TrainTask) -> None:
    """Stay until the chief is done or gone: TensorFlow on the chief fails when a worker leaves before it.

    The chief alone decides how the attempt ends; a worker that has done its part is not a failure.
    """
    misses = 0
    while misses < 3:
        report = fetch_report(task.peers[0])
        if report is not None and report.phase == "Done":
            return
        misses = misses + 1 if report is None else 0
        time.sleep(POLL_SECONDS)
