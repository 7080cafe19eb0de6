"""The network in 8 bits, and what that costs in accuracy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lepton_workloads.contract.artifact import INT8_FILE
from lepton_workloads.contract.data import Normalization, SplitName
from lepton_workloads.decode import normalize
from lepton_workloads.logs import Log
from lepton_workloads.termination import printable
from lepton_workloads.train.data import Dataset, SplitData
from lepton_workloads.train.export import gist, to_litert
from lepton_workloads.train.judge.figures import Probabilities
from lepton_workloads.train.litert import predict_litert
from lepton_workloads.train.metrics import Quantization
from lepton_workloads.train.network import OUTPUT

REPRESENTATIVE = 256
"""Training pictures from which the ranges of all values are taken."""

log = Log(__name__)


def write_int8(
    model: Any, folder: Path, dataset: Dataset, judged: SplitName, floats: Probabilities, seed: int
) -> Quantization:
    """Write `model.int8.tflite` (all integer inside, float32 outside) and judge it.

    A network that can't be had in 8 bits is none the worse in 32: the reason is part of the result.

    Args:
        judged: the split that tells the accuracy.
        floats: what `model.tflite` answers to it.

    Raises:
        OSError: the store.
    """
    path = folder / INT8_FILE
    split, normalization = dataset.splits[judged], dataset.manifest.normalization
    found = Quantization(split=judged, samples=len(split), float_accuracy=_accuracy(floats, split))
    try:
        _convert(model, path, dataset.splits[SplitName.TRAIN], normalization, seed)
        integers = predict_litert(path, split, normalization)
        if not np.isfinite(integers).all():
            raise ValueError("the 8-bit network answers with numbers that are not finite")
    except OSError:
        raise
    except Exception as error:  # the converter raises its own and TensorFlow's errors
        path.unlink(missing_ok=True)
        log.warning("Wrote no 8-bit version", error=gist(error))
        return found.model_copy(update={"error": printable(gist(error))})
    same = integers.argmax(axis=1) == floats.argmax(axis=1)
    result = found.model_copy(
        update={
            "int8_accuracy": _accuracy(integers, split),
            "agreement": float(same.mean()),
            "largest_difference": float(np.abs(integers - floats).max()),
        }
    )
    log.info("Wrote the 8-bit version", **result.to_json_dict())
    return result


def _convert(model: Any, path: Path, train: SplitData, normalization: Normalization, seed: int) -> None:
    count = min(len(train), REPRESENTATIVE)
    chosen = np.sort(np.random.default_rng(seed).choice(len(train), count, replace=False))

    def representative() -> Iterator[list[Any]]:
        for number in chosen:
            yield [normalize(train.images[number : number + 1], normalization)]

    to_litert(
        keras.Model(model.input, {OUTPUT: model.output}),
        path,
        [tf.lite.OpsSet.TFLITE_BUILTINS_INT8],
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=representative,
    )


def _accuracy(probabilities: Probabilities, split: SplitData) -> float:
    return float((probabilities.argmax(axis=1) == split.labels).mean())
