"""The history as event files of TensorBoard, under the names that Keras' callback uses.

TensorBoard itself is not there: only the viewer needs it. So summaries get here what its functions would add, the name
of the plugin that shows them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lepton_workloads.contract.artifact import TENSORBOARD_DIR
from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.train.judge.figures import Evaluation

IMAGE_SIDE = 512
"""Pixels that the confusion matrix is enlarged to, where it is smaller."""
MAX_IMAGE_CLASSES = 1024
Figures = Mapping[str, Callable[[Epoch], float | None]]

TRAIN: Figures = {
    "epoch_loss": lambda epoch: epoch.loss,
    "epoch_accuracy": lambda epoch: epoch.accuracy,
    "epoch_learning_rate": lambda epoch: epoch.learning_rate,
}
VALIDATION: Figures = {
    "epoch_loss": lambda epoch: epoch.validation_loss,
    "epoch_accuracy": lambda epoch: epoch.validation_accuracy,
}


def write_tensorboard(folder: Path, history: Sequence[Epoch], test: Evaluation) -> None:
    """Write `tensorboard/train`, `validation` and `test`; steps are epochs, counted from 0 as Keras does.

    Raises:
        OSError: the store.
    """
    root = folder / TENSORBOARD_DIR
    _write_scalars(root / "train", history, TRAIN)
    if any(figure(epoch) is not None for epoch in history for figure in VALIDATION.values()):
        _write_scalars(root / "validation", history, VALIDATION)
    if len(test.confusion_matrix) <= MAX_IMAGE_CLASSES:
        image = confusion_image(test)
        side = str(len(image)).encode()
        # What the plugin expects: width, height, then the pictures.
        values = [side, side, tf.io.encode_png(image).numpy()]
        metadata = _metadata("images", "BLOB_SEQUENCE")
        with _writing(root / "test"):
            tf.summary.write("confusion_matrix", values, step=history[-1].epoch - 1, metadata=metadata)


def confusion_image(evaluation: Evaluation) -> npt.NDArray[np.uint8]:
    """(side, side, 1): a row a true class, a column a predicted one; the brighter, the larger its share of the row."""
    counts = np.array(evaluation.confusion_matrix, np.float64)
    rows = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    factor = max(IMAGE_SIDE // len(rows), 1)
    pixels: npt.NDArray[np.uint8] = np.round(rows * 255).astype(np.uint8)
    return np.kron(pixels, np.ones((factor, factor), np.uint8))[:, :, None]


def _write_scalars(folder: Path, history: Sequence[Epoch], figures: Figures) -> None:
    metadata = _metadata("scalars", "SCALAR")
    with _writing(folder):
        for epoch in history:
            for name, figure in figures.items():
                if (value := figure(epoch)) is not None:
                    step = epoch.epoch - 1
                    tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=metadata)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    writer = tf.summary.create_file_writer(str(folder))
    with closing(writer), writer.as_default():
        yield


def _metadata(plugin: str, data_class: str) -> Any:
    metadata = tf.compat.v1.SummaryMetadata
    return metadata(
        plugin_data=metadata.PluginData(plugin_name=plugin), data_class=f"DATA_CLASS_{data_class}"
    )
