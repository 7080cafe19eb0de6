"""TensorFlow's SavedModel behind the engine's interface, for networks that LiteRT can't take; has its own image."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from lepton_workloads.serve.engines.engine import Explained, Floats, finite

BATCH = 32
"""An image alone takes 870 us, in a batch of 32 it takes 520 us."""
SIGNATURE = "serving_default"


class TensorFlowEngine:
    """A SavedModel's default signature."""

    batch = BATCH

    def __init__(self, folder: Path, threads: int, output: str) -> None:
        """Loads the folder.

        Args:
            output: name of the answer where the signature has several outputs; a single one is the answer.

        Raises:
            ValueError: no SavedModel, or not one float32 input and such a float32 output with the batch first.
        """
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        try:
            self._loaded: Any = tf.saved_model.load(str(folder))  # holds the variables
            self._call: Any = self._loaded.signatures[SIGNATURE]
        except KeyError:
            raise ValueError(f"it has no signature {SIGNATURE}") from None
        except Exception as error:  # TensorFlow raises its own errors, and many others
            raise ValueError(f"TensorFlow can't load it: {' '.join(str(error).split())[:300]}") from error
        inputs = {spec.name: spec for spec in self._call.structured_input_signature[1].values()}
        if len(inputs) != 1:
            raise ValueError(f"one input is needed, not {len(inputs)}")
        [(self._input, given)] = inputs.items()
        self._output, answer = _answer(self._call.structured_outputs, output)
        if given.dtype != tf.float32 or answer.dtype != tf.float32:
            raise ValueError("input and output must be float32")
        if (
            given.shape.rank is None
            or answer.shape.rank != 2
            or None in given.shape[1:]
            or answer.shape[1] is None
        ):
            raise ValueError(
                "the first dimension must be the batch, all others known, the answer one row an input"
            )
        self.input_shape = tuple(int(size) for size in given.shape[1:])
        self.output_size = int(answer.shape[1])

    def predict(self, batch: Floats) -> Floats:
        """See `Engine`."""
        parts = [batch[start : start + BATCH] for start in range(0, len(batch), BATCH)]
        answers: list[Floats] = [
            self._call(**{self._input: tf.constant(part)})[self._output].numpy() for part in parts
        ]
        return finite(answers[0] if len(answers) == 1 else np.concatenate(answers))

    def explain(self, one: Floats) -> Explained:
        """Not to be had: a SavedModel shows no layers, and `read_explainer` says so."""
        raise NotImplementedError("a SavedModel shows no layers")


def _answer(outputs: dict[str, Any], name: str) -> tuple[str, Any]:
    """The output that is the answer; a single one is, whatever its name."""
    if len(outputs) == 1:
        [(found, spec)] = outputs.items()
        return found, spec
    if name not in outputs:
        raise ValueError(f"its outputs are {', '.join(sorted(outputs))}, and none is {name!r}")
    return name, outputs[name]
