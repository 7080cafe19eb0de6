"""LiteRT's interpreter with XNNPACK, the usual engine."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lepton_workloads.serve.engines.engine import Explained, Floats, Layers, finite

BATCHES = (4, 16)
"""Sizes that are tried at the start; the largest that gains is used for what has queued up."""
WORTH = 0.85
"""A batch must take at most this share of the time that its inputs take one by one."""
RUN_SECONDS = 50e-6
"""What each run costs beside the network, measured in the server: turns of the threads, copies, metrics."""
TRIAL_SECONDS = 0.2
"""Sizes that would take longer to try are left out: they delay the start, and such networks gain little."""


class LiteRtEngine:
    """A LiteRT file.

    A float convolution network gains nothing by batches on a CPU, fast ones and those of large dense layers do: it
    is measured. Each size has an interpreter of its own, since changing the size of one costs 0.6 to 6 ms.
    """

    def __init__(
        self,
        file: Path,
        threads: int,
        output: str,
        *,
        layers: Layers | None = None,
        layers_file: Path | None = None,
    ) -> None:
        """Loads the file.

        Args:
            output: name of the answer where the file has several outputs; a single one is the answer.
            layers: outputs for `explain`.
            layers_file: the file that has them, where it is another one; loaded when it is first needed.

        Raises:
            ValueError: no model of LiteRT, or not one float32 input and such a float32 output.
        """
        self._load: Callable[[Path, int], _Network] = lambda path, batch: _Network(
            path, threads, output, batch
        )
        self._one = self._load(file, 1)
        self._layers = layers
        self._layers_file = layers_file
        self._explaining = self._one if layers_file is None else None
        if layers and self._explaining:
            self._explaining.check(layers)
        self.input_shape = self._one.input_shape
        self.output_size = self._one.output_size
        self.batch = 1
        self._many: _Network | None = None
        self._measure(file)

    def predict(self, batch: Floats) -> Floats:
        """See `Engine`."""
        answers = np.empty((len(batch), self.output_size), np.float32)
        start = 0
        if self._many is not None:
            while len(batch) - start >= self.batch:
                answers[start : start + self.batch] = self._many.run(batch[start : start + self.batch])
                start += self.batch
        for index in range(start, len(batch)):
            answers[index] = self._one.run(batch[index : index + 1])[0]
        return finite(answers)

    def explain(self, one: Floats) -> Explained:
        """See `Engine`."""
        assert self._layers is not None, "no layers were asked for"
        if self._explaining is None:
            assert self._layers_file is not None
            self._explaining = self._load(self._layers_file, 1)
            self._explaining.check(self._layers)
        probabilities = self._explaining.run(one)[0].copy()
        if self._explaining is not self._one:
            probabilities = self._one.run(one)[0].copy()
        finite(probabilities)
        read = self._explaining.output
        return Explained(
            probabilities, read(self._layers.features)[0], [read(name)[0] for name in self._layers.sums]
        )

    def _measure(self, file: Path) -> None:
        """Find the batch that gains; also the warm-up."""
        alone = _seconds(self._one)
        for size in BATCHES:
            if alone * size * 3 > TRIAL_SECONDS:
                return
            network = self._load(file, size)
            if _seconds(network) + RUN_SECONDS <= WORTH * size * (alone + RUN_SECONDS):
                self.batch, self._many = size, network


class _Network:
    """One interpreter for batches of one size."""

    def __init__(self, file: Path, threads: int, output: str, batch: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter: Any = Interpreter(model_path=str(file), num_threads=threads)
            inputs = self._interpreter.get_input_details()
            if len(inputs) != 1:
                raise ValueError(f"one input is needed, not {len(inputs)}")
            if len(inputs[0]["shape"]) < 2 or int(inputs[0]["shape"][0]) != 1:
                raise ValueError("the first dimension must be the batch, the answer one row an input")
            self._interpreter.resize_tensor_input(
                inputs[0]["index"], (batch, *inputs[0]["shape"][1:].tolist())
            )
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            raise ValueError(f"LiteRT can't load it: {' '.join(str(error).split())[:300]}") from error
        answer = self._answer(output)
        if inputs[0]["dtype"] is not np.float32 or answer["dtype"] is not np.float32:
            raise ValueError("input and output must be float32")
        if len(answer["shape"]) != 2:
            raise ValueError("the first dimension must be the batch, the answer one row an input")
        self._input: int = inputs[0]["index"]
        self._output: int = answer["index"]
        self._places: dict[str, int] = {}
        self.batch = batch
        self.input_shape = tuple(int(size) for size in inputs[0]["shape"][1:])
        self.output_size = int(answer["shape"][1])

    def run(self, batch: Floats) -> Floats:
        """The answers."""
        self._interpreter.set_tensor(self._input, batch)
        self._interpreter.invoke()
        found: Floats = self._interpreter.get_tensor(self._output)
        return found

    def output(self, name: str) -> Floats:
        """Another output of the last run, once `check` has found it."""
        found: Floats = self._interpreter.get_tensor(self._places[name])
        return found

    def check(self, layers: Layers) -> None:
        """Raises ValueError when an output is missing."""
        named = self._named()
        missing = {layers.features, *layers.sums} - set(named)
        if missing:
            raise ValueError(f"it has no outputs {', '.join(sorted(missing))}, which explanations need")
        self._places = {name: int(details["index"]) for name, details in named.items()}

    def _named(self) -> dict[str, dict[str, Any]]:
        if not self._interpreter.get_signature_list():
            return {}
        found: dict[str, dict[str, Any]] = self._interpreter.get_signature_runner().get_output_details()
        return found

    def _answer(self, name: str) -> dict[str, Any]:
        """Details of the output that is the answer; the others are for explanations."""
        outputs: list[dict[str, Any]] = self._interpreter.get_output_details()
        if len(outputs) == 1:
            return outputs[0]
        named = self._named()
        if not named:
            raise ValueError(f"it has {len(outputs)} outputs without names, so none is known as {name!r}")
        if name not in named:
            raise ValueError(f"its outputs are {', '.join(sorted(named))}, and none is {name!r}")
        return named[name]


def _seconds(network: _Network) -> float:
    """The best of three runs."""
    zeros = np.zeros((network.batch, *network.input_shape), np.float32)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        network.run(zeros)
        best = min(best, time.perf_counter() - started)
    return best
