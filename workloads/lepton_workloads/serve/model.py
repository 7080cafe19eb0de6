"""The one model that is served: from pictures to answers, and its life: loading, ready, draining."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np

from lepton_workloads.contract.artifact import Signature
from lepton_workloads.contract.tasks import ServeTask
from lepton_workloads.decode import DecodeError, PixelBudget, Pixels, decode_picture, normalize
from lepton_workloads.explain import Explainer
from lepton_workloads.logs import Log
from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.engines.engine import Explained, Floats
from lepton_workloads.serve.engines.thread import EngineThread
from lepton_workloads.serve.http import HttpError, overloaded
from lepton_workloads.serve.metrics import Metrics

MAX_PIXELS = 16 * 1024**2
"""Of an uploaded picture: 4 bytes a pixel, up to three copies for a moment. JPEGs need far less."""
REQUEST_PIXELS = 64 * 1024**2
"""Of all pictures of one request: about three seconds of decoding."""
POOL_REQUESTS = 128
"""Requests that decode or wait for it; more are refused at once."""

SMALL_PICTURES = 8
SMALL_BYTES = 16 * 1024
"""Of all files of a request."""
SMALL_PIXELS = 128 * 128
"""Of each picture. So many so small ones are decoded in a fraction of the network's time, and so by its thread."""

P = ParamSpec("P")
T = TypeVar("T")

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer that was given, for those who watch: alarms, drift, the log of requests."""

    inputs: Floats
    """(N, height, width, channels), normalised."""
    probabilities: Floats
    """(N, labels)"""
    pictures: Sequence[bytes]
    """The N picture files, where the request had such; else none."""
    caller: Caller


Observer = Callable[[Prediction], None]
"""Called on the event loop after each answer: quick, and never waits."""


class BadPicture(HttpError):
    """400: picture `index` (from 0) of the request can't be used."""

    def __init__(self, index: int, error: DecodeError) -> None:
        super().__init__(400, str(error))
        self.index = index


class Model:
    """The one model that is served; its methods are for the event loop's thread."""

    def __init__(
        self,
        task: ServeTask,
        signature: Signature,
        engine: EngineThread,
        threads: int,
        metrics: Metrics,
        explainer: Explainer | None = None,
    ) -> None:
        """`explainer`: None when the version has no explanations."""
        self.task = task
        self.signature = signature
        self.explainer = explainer
        self.labels = signature.labels
        self.input_shape = tuple(signature.inputs[0].shape[1:])
        self.draining = False
        self._engine = engine
        self._loaded = False
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._waiting = 0
        self._metrics = metrics
        self._observers: list[Observer] = []

    def watch(self, observer: Observer) -> None:
        """Has every answer told to it from now on."""
        self._observers.append(observer)

    async def load(self) -> None:
        """Waits until the engine has answered its first, trial input.

        Raises:
            WorkloadError: `InvalidData`, terminal: the file is no model, or not that of the signature.
        """
        await asyncio.wrap_future(self._engine.loaded)
        self._loaded = True

    @property
    def loaded(self) -> bool:
        """Whether predictions are answered."""
        return self._loaded

    @property
    def ready(self) -> bool:
        """Whether new requests should come."""
        return self._loaded and not self.draining and self.alive

    @property
    def alive(self) -> bool:
        """Whether the engine's thread runs."""
        return self._engine.alive

    async def predict(self, inputs: Floats, caller: Caller) -> Floats:
        """Probabilities (N, labels) for inputs (N, *input_shape), both float32, normalised already.

        Raises:
            HttpError: 503 while loading or overloaded, 504 when it took too long.
            NotFinite: the answer holds NaN or infinity.
        """
        self._check_loaded()
        probabilities = await self._engine.predict(inputs, caller)
        self._tell(Prediction(inputs, probabilities, (), caller))
        return probabilities

    async def predict_pictures(self, pictures: Sequence[bytes], caller: Caller) -> Floats:
        """Probabilities (N, labels), float32, for N picture files.

        Raises:
            BadPicture: 400, one of the files is no picture that can be used.
            HttpError, NotFinite: as `predict`.
        """
        self._check_loaded()
        found = await self._predict_small(pictures, caller)
        if found is None:
            inputs = await self.decode(pictures)
            found = inputs, await self._engine.predict(inputs, caller)
        self._tell(Prediction(*found, pictures, caller))
        return found[1]

    async def _predict_small(self, pictures: Sequence[bytes], caller: Caller) -> tuple[Floats, Floats] | None:
        """Inputs and probabilities; None when one of the pictures isn't small, or no picture."""
        if len(pictures) > SMALL_PICTURES or sum(map(len, pictures)) > SMALL_BYTES:
            return None
        nbytes = 4 * len(pictures) * math.prod(self.input_shape)
        make = partial(self._decode, pictures, SMALL_PIXELS)
        try:
            return await self._engine.predict_made(make, len(pictures), nbytes, caller)
        except BadPicture:
            return None

    async def explain(self, one: Floats, caller: Caller) -> Explained:
        """The answer to one input (1, *input_shape), and what `heat` makes maps of.

        Observers are not told: whoever asks why has the answer already, and asks for several classes of one picture.

        Raises:
            HttpError: 501 when the version can't be explained, else as `predict`.
            NotFinite: the answer holds NaN or infinity.
        """
        self._check_loaded()
        if self.explainer is None:
            raise HttpError(
                501, "this version can't be explained: it holds no explain.npz, or another engine runs it"
            )
        return await self._engine.explain(one, caller)

    def heat(self, explained: Explained, number: int) -> Floats:
        """What speaks for class `number`, float32 (H, W), from 0 on; larger is more."""
        assert self.explainer is not None, "`explain` has refused"
        return self.explainer.map(explained.features, explained.sums, number)

    def _check_loaded(self) -> None:
        if not self._loaded:
            raise overloaded("the model is loading")

    def _tell(self, prediction: Prediction) -> None:
        for observer in self._observers:
            try:
                observer(prediction)
            except Exception as error:  # an answer is an answer, whatever becomes of those who watch
                self._metrics.observer_failures.inc()
                log.error("Failed to look at a prediction", error=error)

    async def decode(self, pictures: Sequence[bytes]) -> Floats:
        """Picture files as the network's inputs (N, height, width, channels), float32, normalised.

        Raises:
            BadPicture: 400, one of the files is no picture that can be used.
            HttpError: 503 when too many requests wait for it.
        """
        return await self.in_pool(self._decode, pictures)

    async def in_pool(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs what would hold the event loop for long in the pool of decoders.

        Raises:
            HttpError: 503 when too many requests wait for it.
        """
        if self._waiting >= POOL_REQUESTS:
            raise overloaded(f"{POOL_REQUESTS} requests are waiting for decoding already")
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._decoders.submit(function, *args, **kwargs))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Gives up what waits for decoding."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _decode(self, pictures: Sequence[bytes], max_pixels: int = MAX_PIXELS) -> Floats:
        started = time.perf_counter()
        pixels = np.empty((len(pictures), *self.input_shape), np.uint8)
        budget = PixelBudget(REQUEST_PIXELS)
        for index, data in enumerate(pictures):
            pixels[index] = self._decode_one(index, data, max_pixels, budget)
        inputs = normalize(pixels, self.signature.preprocessing.normalization)
        self._metrics.decode_seconds.observe(time.perf_counter() - started)
        return inputs

    def _decode_one(self, index: int, data: bytes, max_pixels: int, budget: PixelBudget) -> Pixels:
        picture = self.signature.preprocessing.picture
        try:
            return decode_picture(data, picture, max_pixels=max_pixels, budget=budget)
        except DecodeError as error:
            raise BadPicture(index, error) from None
