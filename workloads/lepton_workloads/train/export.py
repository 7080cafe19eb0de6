"""The trained network in three formats, and the proof that what is served computes what was trained."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lepton_workloads.contract.artifact import KERAS_FILE, LITERT_FILE, SAVED_MODEL_DIR
from lepton_workloads.contract.data import Normalization, Picture
from lepton_workloads.contract.network import Cnn
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.logs import Log
from lepton_workloads.termination import WorkloadError, printable
from lepton_workloads.train.data import SplitData
from lepton_workloads.train.explaining import with_explanations
from lepton_workloads.train.litert import predict_litert
from lepton_workloads.train.network import INPUT, build_network

MAX_DIFFERENCE = 1e-5

log = Log(__name__)


def rebuild(model: Any, cnn: Cnn, picture: Picture, classes: int) -> Any:
    """The network in float32 with plain layers and the trained weights, outside any strategy."""
    rebuilt = build_network(cnn, picture, classes)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def export(model: Any, cnn: Cnn, folder: Path) -> None:
    """Write model.keras, saved_model/ and model.tflite (float32, any batch size, built-in operations only).

    `model.tflite` has the outputs of `with_explanations`, the others the probabilities alone.

    Raises:
        WorkloadError: ExportFailed, naming the operation that the serving runtime lacks.
    """
    model.save(folder / KERAS_FILE)
    model.export(
        str(folder / SAVED_MODEL_DIR),
        format="tf_saved_model",
        input_signature=_input_signature(model),
        verbose=False,
    )
    try:
        to_litert(with_explanations(model, cnn), folder / LITERT_FILE, [tf.lite.OpsSet.TFLITE_BUILTINS])
    except Exception as error:  # the converter raises its own and TensorFlow's errors
        text = f"the network can't be converted for serving: {gist(error)}"
        raise WorkloadError(Failure.EXPORT_FAILED, printable(text), terminal=True) from error


def to_litert(model: Any, path: Path, operations: list[Any], **settings: Any) -> None:
    """Convert to LiteRT with these operations alone; outputs that are a dictionary keep their names.

    Args:
        settings: attributes of tf.lite.TFLiteConverter.

    Raises:
        Exception: whatever the converter says.
    """
    model.export(
        str(path),
        format="litert",
        input_signature=_input_signature(model),
        target_spec={"supported_ops": operations},
        verbose=False,
        **settings,
    )


def check_export(
    path: Path, split: SplitData, expected: npt.NDArray[np.float32], normalization: Normalization
) -> tuple[npt.NDArray[np.float32], float]:
    """What the exported file answers to a split, and the largest difference to Keras.

    Args:
        path: model.tflite.
        expected: Keras' probabilities (N, classes) of the split, in its order.

    Raises:
        WorkloadError: ExportFailed.
    """
    try:
        found = predict_litert(path, split, normalization)
    except (RuntimeError, ValueError) as error:
        text = f"the exported network does not run: {gist(error)}"
        raise WorkloadError(Failure.EXPORT_FAILED, printable(text), terminal=True) from error
    difference = float(np.abs(found - expected).max())
    log.info("Compared the exported network with Keras", samples=len(found), difference=difference)
    if not difference <= MAX_DIFFERENCE:
        text = (
            f"the exported network differs from the trained one by {difference:g}, above {MAX_DIFFERENCE:g}"
        )
        raise WorkloadError(Failure.EXPORT_FAILED, text, terminal=True)
    return found, difference


def gist(error: Exception) -> str:
    """The lines of a converter's long message that name the operation."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "ops:" in line.lower() or "custom op" in line.lower()]
    return " ".join((telling or lines or [type(error).__name__])[:3])[:600]


def _input_signature(model: Any) -> list[Any]:
    return [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)]
