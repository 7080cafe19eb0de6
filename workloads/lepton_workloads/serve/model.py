"""The model version on disk, and its life: loading, ready, draining."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from pydantic import ValidationError

from lepton_workloads.contract.artifact import LITERT_FILE, SIGNATURE_FILE, Signature
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.tasks import ServeTask
from lepton_workloads.decode import DecodeError, Pixels, decode_picture, normalize
from lepton_workloads.serve.engine import Engine, EngineThread, Floats, LiteRtEngine
from lepton_workloads.serve.http import HttpError, overloaded
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.termination import WorkloadError

MAX_PIXELS = 16 * 1024**2
"""Of an uploaded picture: 4 bytes a pixel, up to three copies for a moment. JPEGs need far less."""
POOL_REQUESTS = 128
"""Requests that decode or wait for it; more are refused at once."""


P = ParamSpec("P")
T = TypeVar("T")


class BadPicture(HttpError):
    """400: picture `index` (from 0) of the request can't be used."""

    def __init__(self, index: int, error: DecodeError) -> None:
        super().__init__(400, str(error))
        self.index = index


class Model:
    """The one model that is served; its methods are for the event loop's thread."""

    def __init__(
        self, task: ServeTask, signature: Signature, engine: EngineThread, threads: int, metrics: Metrics
    ) -> None:
        self.task = task
        self.signature = signature
        self.labels = signature.labels
        self.input_shape = tuple(signature.inputs[0].shape[1:])
        self.draining = False
        self._engine = engine
        self._loaded = False
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._waiting = 0
        self._metrics = metrics

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
    def alive(self) -> bool:
        """Whether the engine's thread runs."""
        return self._engine.alive

    async def predict(self, inputs: Floats) -> Floats:
        """Probabilities (N, labels) for inputs (N, *input_shape), both float32, normalised already.

        Raises:
            HttpError: 503 while loading or overloaded.
            NotFinite: the answer holds NaN or infinity.
        """
        if not self._loaded:
            raise overloaded("the model is loading")
        return await self._engine.predict(inputs)

    async def decode(self, pictures: list[bytes]) -> Floats:
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

    def _decode(self, pictures: list[bytes]) -> Floats:
        with self._metrics.decode_seconds.time():
            preprocessing = self.signature.preprocessing
            pixels = np.empty((len(pictures), *self.input_shape), np.uint8)
            for index, data in enumerate(pictures):
                pixels[index] = self._decode_one(index, data)
            return normalize(pixels, preprocessing.normalization)

    def _decode_one(self, index: int, data: bytes) -> Pixels:
        try:
            return decode_picture(data, self.signature.preprocessing.picture, max_pixels=MAX_PIXELS)
        except DecodeError as error:
            raise BadPicture(index, error) from None


def read_signature(folder: Path) -> Signature:
    """`signature.json`, checked against itself.

    Raises:
        WorkloadError: `InvalidData`, terminal.
    """
    try:
        signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise _invalid(f"{SIGNATURE_FILE} can't be used: {error}") from error
    picture = signature.preprocessing.picture
    if not signature.inputs or not signature.outputs or not signature.labels:
        raise _invalid(f"{SIGNATURE_FILE}: inputs, outputs and labels must not be empty")
    if signature.inputs[0].shape != [-1, picture.height, picture.width, picture.channels]:
        raise _invalid(f"{SIGNATURE_FILE}: the input's shape is not that of the picture")
    if signature.outputs[0].shape != [-1, len(signature.labels)]:
        raise _invalid(f"{SIGNATURE_FILE}: the output's shape is not one number for each label")
    return signature


def engine_loader(folder: Path, signature: Signature, threads: int) -> Callable[[], Engine]:
    """What loads the LiteRT engine, checks it against the signature and tries it once.

    The loader raises WorkloadError (`InvalidData`, terminal) when the file can't be used.
    """

    def load() -> Engine:
        shape = tuple(signature.inputs[0].shape[1:])
        try:
            engine = LiteRtEngine(folder / LITERT_FILE, threads, signature.outputs[0].name)
            if engine.input_shape != shape or engine.output_size != len(signature.labels):
                found = f"{list(engine.input_shape)} and {engine.output_size}"
                raise ValueError(f"input and output are {found}, not those of {SIGNATURE_FILE}")
            engine.predict(np.zeros((1, *shape), np.float32))
        except (OSError, ValueError) as error:
            raise _invalid(f"{LITERT_FILE} can't be used: {error}") from error
        return engine

    return load


def _invalid(message: str) -> WorkloadError:
    return WorkloadError(Failure.INVALID_DATA, message, terminal=True)
