"""The start gate: TensorFlow is started only when every worker of this attempt is there.

TensorFlow waits an hour for a missing peer and listens only after its own start, so the gate asks the
report ports, which open first. A peer is a host name; `host:port` names a report port, and then the next
port is TensorFlow's (for several workers on one host).
"""

import http.client
import json
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lepton_workloads.contract.outcome import Failure, Report, parse_report
from lepton_workloads.contract.tasks import GANG_PORT, REPORT_PORT, TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.termination import WorkloadError

POLL_SECONDS = 0.5
TIMEOUT_SECONDS = 2.0
MAX_REPORT_BYTES = 64 * 1024
LOST_SECONDS = 60.0
"""A chief that exports a network on a crowded node may not answer for many seconds."""
MAX_REFUSALS = 3
AT_THE_GATE = ("Starting", "Loading", "Waiting")
"""Phases of a peer that waits too. Another one is a pod of this attempt that ends: a suspended Job goes on under the
same names before its old pods are gone."""

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


def waits(peer: str, task: TrainTask) -> Report | None:
    """The report of a peer of this job and attempt that is at the gate too, else None."""
    report = fetch_report(peer)
    if report is None or (report.owner_uid, report.attempt) != (task.job_uid, task.attempt):
        return None
    return report if report.phase in AT_THE_GATE else None


def wait_for_gang(task: TrainTask, index: int) -> str:
    """Return when every other worker has answered once; the chief, when it has chosen a checkpoint, too.

    Returns:
        The chief's choice as its report says, empty for the chief itself and for none.

    Raises:
        WorkloadError: PeersNotReady after `startup_deadline_seconds`, naming the missing workers.
    """
    end = time.monotonic() + task.startup_deadline_seconds
    missing = [worker for worker in range(task.workers) if worker != index]
    resume = ""
    while missing:
        still = []
        for worker in missing:
            report = waits(task.peers[worker], task)
            if report is None or (worker == 0 and report.resume is None):
                still.append(worker)
            elif worker == 0:
                resume = report.resume or ""
        missing = still
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
    return resume


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
