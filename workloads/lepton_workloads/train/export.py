"""The trained network in three formats, and the proof that what is served computes what was trained."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from lepton_workloads.contract.artifact import KERAS_FILE, LITERT_FILE, SAVED_MODEL_DIR
from lepton_workloads.contract.data import Normalization, Picture
from lepton_workloads.contract.network import Cnn
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.decode import normalize
from lepton_workloads.logs import Log
from lepton_workloads.termination import WorkloadError, printable
from lepton_workloads.train.data import SplitData
from lepton_workloads.train.network import INPUT, build_network
from lepton_workloads.train.predict import BATCH

MAX_DIFFERENCE = 1e-5
MAX_SAMPLES = 2048

log = Log(__name__)


def rebuild(model: Any, cnn: Cnn, picture: Picture, classes: int) -> Any:
    """The network in float32 with plain layers and the trained weights, outside any strategy."""
    rebuilt = build_network(cnn, picture, classes)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def export(model: Any, folder: Path) -> None:
    """Write model.keras, saved_model/ and model.tflite (float32, any batch size, built-in operations only).

    Raises:
        WorkloadError: ExportFailed, naming the operation that the serving runtime lacks.
    """
    model.save(folder / KERAS_FILE)
    height, width, channels = model.input_shape[1:]
    signature = [tf.TensorSpec((None, height, width, channels), tf.float32, name=INPUT)]
    model.export(
        str(folder / SAVED_MODEL_DIR), format="tf_saved_model", input_signature=signature, verbose=False
    )
    builtin = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        model.export(
            str(folder / LITERT_FILE),
            format="litert",
            input_signature=signature,
            target_spec={"supported_ops": builtin},
            verbose=False,
        )
    except Exception as error:  # the converter raises its own and TensorFlow's errors
        text = f"the network can't be converted for serving: {_gist(error)}"
        raise WorkloadError(Failure.EXPORT_FAILED, printable(text), terminal=True) from error


def check_export(
    path: Path, split: SplitData, expected: npt.NDArray[np.float32], normalization: Normalization
) -> float:
    """The largest difference between the exported file and Keras over (part of) a split.

    Args:
        path: model.tflite.
        expected: Keras' probabilities (N, classes) of the split, in its order.

    Raises:
        WorkloadError: ExportFailed.
    """
    try:
        found = _run_litert(path, split, normalization)
    except (RuntimeError, ValueError) as error:
        text = f"the exported network does not run: {_gist(error)}"
        raise WorkloadError(Failure.EXPORT_FAILED, printable(text), terminal=True) from error
    difference = float(np.abs(found - expected[: len(found)]).max())
    log.info("Compared the exported network with Keras", samples=len(found), difference=difference)
    if not difference <= MAX_DIFFERENCE:
        text = (
            f"the exported network differs from the trained one by {difference:g}, above {MAX_DIFFERENCE:g}"
        )
        raise WorkloadError(Failure.EXPORT_FAILED, text, terminal=True)
    return difference


def _run_litert(path: Path, split: SplitData, normalization: Normalization) -> npt.NDArray[np.float32]:
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    [input_details], [output_details] = interpreter.get_input_details(), interpreter.get_output_details()
    samples = min(len(split), MAX_SAMPLES)
    size = min(samples, BATCH)
    interpreter.resize_tensor_input(input_details["index"], (size, *split.images.shape[1:]))
    interpreter.allocate_tensors()
    results = []
    for batch in split.batches(np.arange(samples), size):
        interpreter.set_tensor(input_details["index"], normalize(batch.images, normalization))
        interpreter.invoke()
        results.append(interpreter.get_tensor(output_details["index"])[: batch.pictures].copy())
    return np.concatenate(results)


def _gist(error: Exception) -> str:
    """The lines of a converter's long message that name the operation."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "ops:" in line.lower() or "custom op" in line.lower()]
    return " ".join((telling or lines or [type(error).__name__])[:3])[:600]
