"""TensorFlow set up the same way every time: threads, determinism, the strategy, and its errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.termination import WorkloadError, take_sigterm
from lepton_workloads.train.gate import silent

_GANG_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def start(task: TrainTask, threads: int) -> Any:
    """The strategy: the default one for one worker, ring all-reduce between several (TF_CONFIG is set).

    Thread pools are sized explicitly, since their defaults ignore the container's limit. One operation at a time is
    fastest, and no more than `threads` are used then; a gang's collectives wait beside the computation.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(2 if task.workers > 1 else 1)
    strategy = tf.distribute.get_strategy()
    if task.workers > 1:
        ring = tf.distribute.experimental.CommunicationImplementation.RING
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(implementation=ring)
        )
        take_sigterm()  # TensorFlow's coordination swallows it, and the pod would last until it is killed
    keras.utils.set_random_seed(task.training.seed)
    if not uses_xla(task):
        # With it XLA refuses the gradient of max-pooling; what XLA makes for a CPU is deterministic by itself.
        tf.config.experimental.enable_op_determinism()
    return strategy


def uses_xla(task: TrainTask) -> bool:
    """Whether the step is compiled: not with collectives in the middle of it, which synchronized layers have."""
    synchronized = task.workers > 1 and task.network.batch_normalization
    return task.training.jit_compile and not synchronized


@contextmanager
def gang_errors(task: TrainTask, index: int) -> Iterator[None]:
    """Name what worker `index` sees when another one is lost.

    Raises:
        WorkloadError: PeersNotReady; the operator starts the whole gang again.
    """
    try:
        yield
    except _GANG_ERRORS as error:
        if task.workers == 1:
            raise
        names = ", ".join(f"worker {worker} ({task.peers[worker]})" for worker in silent(task, index)[:5])
        who = f"no answer from {names}" if names else "another worker was lost"
        text = f"{who} during the training: {_gist(str(error))}"
        raise WorkloadError(Failure.PEERS_NOT_READY, text, terminal=False) from error


def _gist(text: str) -> str:
    """The line that names the cause; TensorFlow puts the graph's nodes before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["unknown"]
    words = ("aborted by", "unavailable", "connection", "socket", "heartbeat")
    telling = [line for line in lines if any(word in line.lower() for word in words)]
    return (telling or lines)[0][:300]
