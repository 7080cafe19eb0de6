"""What tensors the network takes, whichever protocol brings them: datatypes, shapes, limits, raw bytes.

Datatypes are those of the Open Inference Protocol. FP32, FP64 and FP16 are the network's own input, normalised
already. UINT8 are pixels that fit the network's frame, 0 to 255: they are normalised by the signature. BYTES are
picture files. Other integers are refused: nobody could tell pixels from normalised numbers.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.artifact import Signature
from lepton_workloads.decode import normalize
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.http import HttpError

MAX_TENSOR_BYTES = 32 * 1024**2
"""Of all inputs of one request, as float32: a small body can name many small pictures."""
LARGE_BODY_BYTES = 256 * 1024
"""Larger bodies are read in another thread, so that the event loop goes on between the steps."""

Raw = bytes | memoryview

PIXELS = "UINT8"
FILES = "BYTES"
_NUMBERS: dict[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "FP16": np.dtype("<f2"),
}
_UINT8: np.dtype[Any] = np.dtype(np.uint8)
DATATYPES = (*_NUMBERS, PIXELS, FILES)
_LENGTH_BYTES = 4
"""Before each element of BYTES: its length, little-endian."""


def max_inputs(shape: tuple[int, ...]) -> int:
    """How many inputs of this shape one request may hold."""
    return max(1, MAX_TENSOR_BYTES // (4 * math.prod(shape)))


def check_count(count: int, shape: tuple[int, ...], field: str) -> None:
    """Raises HttpError 400 when there are no inputs, or too many."""
    if count == 0:
        raise HttpError(400, f"{field} is empty: at least one input is needed")
    if count > max_inputs(shape):
        raise HttpError(400, f"{field} holds {count} inputs, at most {max_inputs(shape)} are accepted")


def check_datatype(datatype: object, field: str) -> str:
    """The datatype, when the network can be asked with it.

    Raises:
        HttpError: 400.
    """
    if isinstance(datatype, str) and datatype in DATATYPES:
        return datatype
    raise HttpError(
        400,
        f"{field} must be FP32, FP64 or FP16 (the network's input, normalised), UINT8 (pixels) or BYTES (picture "
        f"files), not {str(datatype)[:40]!r}",
    )


def check_shape(found: Sequence[int], datatype: str, shape: tuple[int, ...], field: str) -> int:
    """How many inputs (N, *shape) a tensor of this shape holds; picture files are (N,) or (N, 1).

    Raises:
        HttpError: 400.
    """
    inner = tuple(found[1:])
    if datatype == FILES:
        fits, expected = inner in ((), (1,)), "[N] or [N, 1] for N picture files"
    else:
        fits, expected = inner == shape, f"[N, {', '.join(map(str, shape))}]"
    if not found or not fits:
        raise HttpError(400, f"{field} is {list(found)[:8]}, it must be {expected}")
    check_count(found[0], shape, field)
    return found[0]


def read_raw(raw: Raw, datatype: str, count: int, signature: Signature, field: str) -> Floats:
    """The network's inputs (count, *shape) in raw little-endian numbers, row by row; FP32 is not copied.

    Raises:
        HttpError: 400 for another number of bytes, numbers that are not finite or too large for float32.
    """
    shape = (count, *signature.inputs[0].shape[1:])
    dtype = _NUMBERS.get(datatype, _UINT8)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise HttpError(400, f"{field} has {len(raw)} bytes, {datatype} of shape {list(shape)} is {expected}")
    numbers = np.frombuffer(raw, dtype).reshape(shape)
    if datatype == PIXELS:
        return normalize(numbers, signature.preprocessing.normalization)
    tensor: Floats = numbers if datatype == "FP32" else _as_float32(numbers)
    if not np.isfinite(tensor).all():
        raise HttpError(400, f"{field} holds NaN, infinity or a number that is too large for float32")
    return tensor


def _as_float32(numbers: npt.NDArray[Any]) -> Floats:
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def unpack_files(raw: Raw, count: int, field: str) -> list[bytes]:
    """The elements of raw BYTES, each behind its length.

    Raises:
        HttpError: 400 when the lengths don't fit the bytes.
    """
    files: list[bytes] = []
    start = 0
    for index in range(count):
        end = start + _LENGTH_BYTES
        length = int.from_bytes(raw[start:end], "little")
        if end + length > len(raw):
            message = (
                f"{field}: element {index} ends behind the data; each is its length in 4 bytes, then itself"
            )
            raise HttpError(400, message)
        files.append(bytes(raw[end : end + length]))
        start = end + length
    if start != len(raw):
        raise HttpError(400, f"{field}: {len(raw) - start} bytes follow the {count} elements of the shape")
    return files


def pack_files(elements: Sequence[bytes]) -> bytes:
    """Raw BYTES: each element behind its length."""
    return b"".join(len(one).to_bytes(_LENGTH_BYTES, "little") + one for one in elements)


def classes(probabilities: Floats, count: int, labels: Sequence[str]) -> list[str]:
    """`probability:index:label` of the `count` most probable classes of each row, one row after the other."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [
        f"{row[index]}:{index}:{labels[index]}"
        for row, indexes in zip(probabilities, best.tolist(), strict=True)
        for index in indexes
    ]
