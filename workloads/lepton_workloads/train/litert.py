"""Files of LiteRT, run as the server runs them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from lepton_workloads.contract.data import Normalization
from lepton_workloads.decode import normalize
from lepton_workloads.train.data import SplitData
from lepton_workloads.train.network import OUTPUT
from lepton_workloads.train.predict import BATCH

Floats = npt.NDArray[np.float32]


class LiteRtFile:
    """A network of LiteRT, for batches of one size.

    Raises:
        RuntimeError, ValueError: it does not run.
    """

    def __init__(self, path: Path, batch: int) -> None:
        self._interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
        [given] = self._interpreter.get_input_details()
        self._input = given["index"]
        outputs = self._interpreter.get_signature_runner().get_output_details()
        self._outputs = {name: details["index"] for name, details in outputs.items()}
        self._interpreter.resize_tensor_input(self._input, (batch, *given["shape"][1:].tolist()))
        self._interpreter.allocate_tensors()

    def run(self, inputs: Floats) -> dict[str, Floats]:
        """All outputs by name, the batch first."""
        self._interpreter.set_tensor(self._input, inputs)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index).copy() for name, index in self._outputs.items()}


def predict_litert(path: Path, split: SplitData, normalization: Normalization) -> Floats:
    """Probabilities (N, classes) of a whole split, in its order; N > 0.

    Raises:
        RuntimeError, ValueError: the file does not run.
    """
    size = min(len(split), BATCH)
    file = LiteRtFile(path, size)
    results = [
        file.run(normalize(batch.images, normalization))[OUTPUT][: batch.pictures]
        for batch in split.batches(np.arange(len(split)), size)
    ]
    return np.concatenate(results)
