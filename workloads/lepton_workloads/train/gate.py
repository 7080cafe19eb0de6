"""The start gate: TensorFlow is started only when every worker of this attempt is there and knows it.

TensorFlow waits an hour for a missing peer and listens only after its own start, so workers meet by the
report ports, which open first. While TensorFlow waits no thread of Python runs, and nobody gets an answer: so the
chief starts it only after every worker has read that the gang is complete, and a worker only when it has read that.
A peer is a host name; `host:port` names a report port, and then the next port is TensorFlow's (for several workers
on one host).
"""

import http.client
import json
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from lepton_workloads.contract.outcome import Failure, Report, parse_report
from lepton_workloads.contract.tasks import GANG_PORT, REPORT_PORT, TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.report import ReportServer
from lepton_workloads.termination import WorkloadError

POLL_SECONDS = 0.5
GATE_SECONDS = 0.05
"""The chief looks only at what it knows itself."""
TIMEOUT_SECONDS = 2.0
JOIN_SECONDS = 10.0
"""An answer that the chief gave counts as read: it must not be given up too early."""
MAX_REPORT_BYTES = 64 * 1024
LOST_SECONDS = 60.0
"""A chief that exports a network on a crowded node may not answer for many seconds."""
MAX_REFUSALS = 3
COMPLETE = "Complete"
"""Phase of a chief that has met all workers."""
SECOND_LOOK_SECONDS = 10.0
"""A worker waits so much longer than the chief, who knows best who is missing."""

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


def fetch_report(peer: str, query: str = "", timeout: float = TIMEOUT_SECONDS) -> Report | None:
    """A peer's report, None when it doesn't answer or answers nonsense; the query says who asks."""
    connection = http.client.HTTPConnection(*report_address(peer), timeout=timeout)
    try:
        connection.request("GET", f"/report{query}")
        response = connection.getresponse()
        if response.status != 200:
            return None
        return parse_report(json.loads(response.read(MAX_REPORT_BYTES)))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def fetch_of_gang(
    peer: str, task: TrainTask, query: str = "", timeout: float = TIMEOUT_SECONDS
) -> Report | None:
    """The same, if the report is of this job and attempt."""
    report = fetch_report(peer, query, timeout)
    if report is None or (report.owner_uid, report.attempt) != (task.job_uid, task.attempt):
        return None
    return report


def is_there(peer: str, task: TrainTask) -> bool:
    """The peer answers, and for this job and attempt."""
    return fetch_of_gang(peer, task) is not None


def gather(task: TrainTask, server: ReportServer) -> None:
    """The chief's side: its choice of a checkpoint is in its report; return when all workers know that all are there.

    Raises:
        WorkloadError: PeersNotReady after `startup_deadline_seconds`, naming the missing workers.
    """
    end = time.monotonic() + task.startup_deadline_seconds
    _wait_for_readers(task, server, end, None)
    server.update(phase=COMPLETE)
    _wait_for_readers(task, server, max(end, time.monotonic() + LOST_SECONDS), COMPLETE)
    log.info("Passed the start gate", workers=task.workers, index=0)


def _wait_for_readers(task: TrainTask, server: ReportServer, end: float, phase: str | None) -> None:
    """Wait until all workers have read a report, of that phase if one is given."""
    while missing := [
        worker
        for worker in range(1, task.workers)
        if (read := server.read_by(worker)) is None or (phase and read.phase != phase)
    ]:
        if time.monotonic() >= end:
            names = ", ".join(f"{worker} ({task.peers[worker]})" for worker in missing[:5])
            raise WorkloadError(
                Failure.PEERS_NOT_READY,
                f"{len(missing)} of {task.workers} workers did not answer within "
                f"{task.startup_deadline_seconds} s: worker {names}; see why their pods don't run",
                terminal=False,
            )
        time.sleep(GATE_SECONDS)


def join(task: TrainTask, index: int) -> str:
    """A worker's side: return when the chief of this job and attempt says that all are there.

    Returns:
        The checkpoint that the chief has chosen, empty for none.

    Raises:
        WorkloadError: PeersNotReady some seconds after `startup_deadline_seconds`.
    """
    end = time.monotonic() + task.startup_deadline_seconds + SECOND_LOOK_SECONDS
    query = f"?uid={quote(task.job_uid)}&attempt={task.attempt}&worker={index}"
    while True:
        report = fetch_of_gang(task.peers[0], task, query, JOIN_SECONDS)
        if report is not None and report.phase == COMPLETE:
            log.info("Passed the start gate", workers=task.workers, index=index)
            return report.resume or ""
        if time.monotonic() >= end:
            why = "did not answer" if report is None else "still waits for others"
            text = (
                f"worker 0 ({task.peers[0]}) {why} within {task.startup_deadline_seconds} s; see why pods of this "
                "job don't run"
            )
            raise WorkloadError(Failure.PEERS_NOT_READY, text, terminal=False)
        time.sleep(POLL_SECONDS)


def silent(task: TrainTask, index: int) -> list[int]:
    """Workers, other than `index`, that don't answer at this moment."""
    others = [worker for worker in range(task.workers) if worker != index]
    with ThreadPoolExecutor(max_workers=16) as pool:
        answers = pool.map(lambda worker: is_there(task.peers[worker], task), others)
        return [worker for worker, answer in zip(others, answers, strict=True) if not answer]


def is_gone(peer: str) -> bool:
    """Nobody listens at the peer's report port, or it has no address any more; silence is something else."""
    try:
        with socket.create_connection(report_address(peer), TIMEOUT_SECONDS):
            return False
    except TimeoutError:
        return False
    except OSError:
        return True


def wait_for_chief(task: TrainTask) -> None:
    """Stay until the chief is done or gone: TensorFlow on the chief fails when a worker leaves before it.

    The chief alone decides how the attempt ends; a worker that has done its part is not a failure.
    """
    refusals = 0
    answered = time.monotonic()
    while refusals < MAX_REFUSALS and time.monotonic() - answered < LOST_SECONDS:
        report = fetch_report(task.peers[0])
        if report is not None and report.phase == "Done":
            return
        if report is not None:
            answered = time.monotonic()
        refusals = refusals + 1 if report is None and is_gone(task.peers[0]) else 0
        time.sleep(POLL_SECONDS)
