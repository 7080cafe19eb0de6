"""What runs the network: a small interface, LiteRT behind it, one thread and a bounded queue before it."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lepton_workloads.serve.http import overloaded

Floats = npt.NDArray[np.float32]
QUEUE_REQUESTS = 128
"""Requests that wait for the engine; more are refused at once, so that an overload can't grow a queue."""


class NotFinite(ValueError):
    """The network's answer holds NaN or infinity."""


class Engine(Protocol):
    """A loaded network. Used by one thread at a time."""

    input_shape: tuple[int, ...]
    """Of one input, without the batch."""
    output_size: int
    """Numbers in one answer."""

    def predict(self, batch: Floats) -> Floats:
        """Answers (N, output_size) for inputs (N, *input_shape), both float32.

        Raises:
            NotFinite: an answer holds NaN or infinity.
        """
        ...


class LiteRtEngine:
    """LiteRT's interpreter with XNNPACK.

    Inputs run one after the other: on a CPU a larger batch gains nothing for a float convolution network
    (590 us an image alone, 504 to 570 in batches of 4 to 32), and each change of the batch size costs
    0.6 to 6 ms.
    """

    def __init__(self, file: Path, threads: int, output: str) -> None:
        """Loads the file.

        Args:
            output: name of the answer where the file has several outputs; a single one is the answer.

        Raises:
            ValueError: no model of LiteRT, or not one float32 input and such a float32 output.
        """
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter: Any = Interpreter(model_path=str(file), num_threads=threads)
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            raise ValueError(f"LiteRT can't load it: {' '.join(str(error).split())[:300]}") from error
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise ValueError(f"one input is needed, not {len(inputs)}")
        answer = self._answer(output)
        if inputs[0]["dtype"] is not np.float32 or answer["dtype"] is not np.float32:
            raise ValueError("input and output must be float32")
        if len(answer["shape"]) != 2 or int(inputs[0]["shape"][0]) != 1:
            raise ValueError("the first dimension must be the batch, the answer one row an input")
        self._input: int = inputs[0]["index"]
        self._output: int = answer["index"]
        self.input_shape = tuple(int(size) for size in inputs[0]["shape"][1:])
        self.output_size = int(answer["shape"][1])

    def predict(self, batch: Floats) -> Floats:
        """See `Engine`."""
        answers = np.empty((len(batch), self.output_size), np.float32)
        for index in range(len(batch)):
            self._interpreter.set_tensor(self._input, batch[index : index + 1])
            self._interpreter.invoke()
            answers[index] = self._interpreter.get_tensor(self._output)[0]
        if not np.isfinite(answers).all():
            raise NotFinite("the network's answer is not finite")
        return answers

    def _answer(self, name: str) -> dict[str, Any]:
        """Details of the output that is the answer; the others are for explanations."""
        outputs: list[dict[str, Any]] = self._interpreter.get_output_details()
        if len(outputs) == 1:
            return outputs[0]
        if not self._interpreter.get_signature_list():
            raise ValueError(f"it has {len(outputs)} outputs without names, so none is known as {name!r}")
        named: dict[str, dict[str, Any]] = self._interpreter.get_signature_runner().get_output_details()
        if name not in named:
            raise ValueError(f"its outputs are {', '.join(sorted(named))}, and none is {name!r}")
        return named[name]


class EngineThread:
    """The engine's only thread: loads it, then works on what the queue holds, first come, first served."""

    def __init__(self, load: Callable[[], Engine], observe: Callable[[float], None]) -> None:
        """`load` makes the engine, ready to answer; `observe` is told the seconds of each inference."""
        self._load = load
        self._observe = observe
        self._queue: queue.Queue[tuple[Floats, Future[Floats]] | None] = queue.Queue(QUEUE_REQUESTS)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.loaded: Future[Engine] = Future()

    def start(self) -> None:
        """Starts loading; `loaded` holds the engine or why there is none."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs; without it no request would ever be answered."""
        return self._thread.is_alive()

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return self._queue.qsize()

    async def predict(self, batch: Floats) -> Floats:
        """Answers (N, output_size) for inputs (N, *input_shape).

        Raises:
            HttpError: 503 when the queue is full.
            NotFinite: see `Engine.predict`.
        """
        future: Future[Floats] = Future()
        try:
            self._queue.put_nowait((batch, future))
        except queue.Full:
            raise overloaded(f"{QUEUE_REQUESTS} requests are waiting for the model already") from None
        return await asyncio.wrap_future(future)

    def _run(self) -> None:
        try:
            engine = self._load()
        except BaseException as error:
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(engine)
        while (job := self._queue.get()) is not None:
            batch, future = job
            if not future.set_running_or_notify_cancel():
                continue  # nobody waits for it any more
            started = time.perf_counter()
            try:
                answers = engine.predict(batch)
            except BaseException as error:
                future.set_exception(error)
            else:
                self._observe(time.perf_counter() - started)
                future.set_result(answers)
