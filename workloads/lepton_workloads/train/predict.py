"""What a network answers to a whole split."""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lepton_workloads.contract.data import Normalization
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.decode import normalize
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.data import SplitData

BATCH = 64


def predict(model: Any, split: SplitData, normalization: Normalization) -> npt.NDArray[np.float32]:
    """Probabilities (N, classes) of a whole split, in its order.

    Raises:
        WorkloadError: Diverged, when they are no numbers.
    """
    call = tf.function(lambda inputs: model(inputs, training=False))
    results = []
    for batch in split.batches(np.arange(len(split)), min(BATCH, max(len(split), 1))):
        probabilities = call(tf.constant(normalize(batch.images, normalization))).numpy()
        results.append(probabilities[: batch.pictures])
    found = np.concatenate(results)
    if not np.isfinite(found).all():
        text = "the trained network answers with numbers that are not finite: lower the learning rate"
        raise WorkloadError(Failure.DIVERGED, text, terminal=True)
    return found
